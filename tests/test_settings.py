"""params.yaml: typed, frozen, all faults at once; `auto` decided by the data set."""

import re
from pathlib import Path

import pytest
import yaml
from dvc.stage.cache import _get_cache_hash
from dvc.utils.flatten import flatten, unflatten
from pydantic import BaseModel, ValidationError

from captioning.settings import resolve
from captioning.settings.resolve import load
from captioning.settings.schema import Settings
from captioning.system.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
PARAMS = (ROOT / "params.yaml").read_text()


def written(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    text = PARAMS
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_the_shipped_file_loads() -> None:
    settings = load(ROOT / "params.yaml")
    assert settings.dataset == "scenes"
    assert settings.decoder == "transformer"


def test_a_float_written_by_dvc_is_a_float(tmp_path: Path) -> None:
    """`dvc exp run -S train.optimizer.lr=1e-5` writes 1e-05, which YAML 1.1 reads as text."""
    assert load(written(tmp_path, ("  lr: 0.003", "  lr: 1e-05"))).train.lr == 1e-5


def test_all_faults_are_reported_at_once_with_line_and_key(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        ("encoder: mobilenet_v3_small", "encoder: 152"),
        ("layers: 1", "layer: 1"),
        ("dropout: 0.3", "dropout: 1.5"),
        ("trainable: auto", "trainable: maybe"),
    )
    with pytest.raises(UserError) as caught:
        load(path)
    faults = str(caught.value).splitlines()
    lines = path.read_text().splitlines()
    assert len(faults) == 5
    for fault in faults:
        assert fault.startswith(f"{path}, line ")
    for key in ("encoder: 152", "layer: 1", "dropout: 1.5", "trainable: maybe"):
        number = next(i for i, line in enumerate(lines, start=1) if key in line)
        assert sum(f"line {number}:" in fault for fault in faults) == 1, key
    assert "decoders.lstm.layer is not a setting; did you mean decoders.lstm.layers?" in str(caught.value)
    assert "decoders.lstm.layers is missing" in str(caught.value)


def test_each_setting_is_in_the_key_of_dvcs_run_cache() -> None:
    """DVC leaves keys of some names out of it at any depth, `size` among them: another value gets the old result."""
    values = flatten(yaml.safe_load(PARAMS))
    key = _key_of(values)
    for name in values:
        assert _key_of({**values, name: "another"}) != key, f"rename {name}: DVC does not see its value"
    assert _key_of({**values, "train.size": 1}) == key  # or this test sees nothing


def _key_of(values: dict[str, object]) -> str:
    key: str = _get_cache_hash({"cmd": "", "params": {"params.yaml": unflatten(values)}})
    return key


def test_a_key_given_twice_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="seed is given twice"):
        load(written(tmp_path, ("dataset: scenes", "seed: 2\ndataset: scenes")))


def test_unknown_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset = 'coco': .*'scenes'.*'flickr8k'"):
        load(written(tmp_path, ("dataset: scenes", "dataset: coco")))


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "seed: [1\n"])
def test_a_file_that_is_no_mapping_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load(ROOT / "params.yaml").seed = 2  # type: ignore[misc]


def sizes(settings: Settings) -> tuple[int, int]:
    options = resolve.decoder_options(settings.model_copy(update={"decoder": "lstm"}))
    return options["embedding_size"], options["hidden_size"]


def test_auto_depends_on_the_data_set_and_gives_way_to_a_value(tmp_path: Path) -> None:
    scenes = load(ROOT / "params.yaml")
    photographs = load(written(tmp_path, ("dataset: scenes", "dataset: flickr8k")))
    chosen = load(written(tmp_path, ("weights: auto", "weights: imagenet"), ("image_size: auto", "image_size: 96")))
    assert (resolve.weights(scenes), resolve.trainable(scenes), resolve.image_size(scenes)) == ("none", True, "quick")
    assert resolve.weights(photographs) == "imagenet"
    assert not resolve.trainable(photographs)
    assert resolve.image_size(photographs) == "enlarged"
    assert (resolve.weights(chosen), resolve.image_size(chosen)) == ("imagenet", 96)
    assert (resolve.epochs(scenes), *sizes(scenes)) == (3, 256, 256)
    assert (resolve.epochs(photographs), *sizes(photographs)) == (4, 128, 512)


def test_batchnorm_is_that_of_the_weights(tmp_path: Path) -> None:
    photographs = ("dataset: scenes", "dataset: flickr8k")
    assert resolve.batchnorm(load(ROOT / "params.yaml")) == "batch"
    assert resolve.batchnorm(load(written(tmp_path, photographs))) == "eval"
    assert resolve.batchnorm(load(written(tmp_path, ("weights: auto", "weights: own.pth")))) == "eval"
    assert resolve.batchnorm(load(written(tmp_path, photographs, ("batchnorm: auto", "batchnorm: batch")))) == "batch"


FROZEN = ("trainable: auto", "trainable: false")
MIRRORED = ("mirror: false # true: features", "mirror: true # true: features")
READ_MIRRORED = ("mirror: false # true: the", "mirror: true # true: the")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([FROZEN, ("    flip: 0.0", "    flip: 0.5")], "train.augment.flip = 0.5 is for a trained encoder"),
        ([FROZEN, ("    crop: 1.0", "    crop: 0.5")], "or train.augment.crop: 1.0"),
        (
            [FROZEN, ("from_block: all", "from_block: layer4")],
            "fine_tune.from_block = layer4 is for",
        ),
        ([("start_epoch: 1", "start_epoch: 9")], "train.encoder.start_epoch = 9, and train.epochs = 3"),
        ([MIRRORED], "features.mirror = true is for a frozen encoder"),
        (
            [FROZEN, ("regions: auto", "regions: false"), ("decoder: transformer", "decoder: updown")],
            "features.regions = false: the decoder updown attends to regions, and the encoder is frozen",
        ),
        (
            [
                ("probability: 0.0", "probability: 0.5"),
                ("first_epoch: 2", "first_epoch: 6"),
                ("last_epoch: 4", "last_epoch: 8"),
            ],
            "train.scheduled_sampling.first_epoch = 6, and train.epochs = 3: no word would be sampled",
        ),
        (
            [
                ("start: data/weights", "start: baseline"),
                ("  epochs: auto", "  epochs: 0"),
                ("    epochs: 0", "    epochs: 2"),
                ("word_dropout: 0.0", "word_dropout: 0.1"),
            ],
            "train.word_dropout = 0.1, and train.epochs = 0: words are dropped in cross-entropy training only",
        ),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(tmp_path: Path, changes: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        load(written(tmp_path, *changes))
    assert "\n" not in str(caught.value)


def test_settings_that_contradict_each_other_are_listed_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, MIRRORED, ("start_epoch: 1", "start_epoch: 9"), ("split: auto", "split: karpathy"))
    with pytest.raises(UserError) as caught:
        load(path)
    starts = ("download.split = 'karpathy'", "features.mirror = true", "train.encoder.start_epoch = 9")
    lines = str(caught.value).splitlines()
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


def test_mirrored_pictures_that_are_read_must_be_stored(tmp_path: Path) -> None:
    """Whichever stage runs first says so; to look at `evaluate` in the others would make them depend on it."""
    with pytest.raises(UserError, match=r"evaluate.mirror = true, and features.mirror = false stores no mirrored"):
        load(written(tmp_path, FROZEN, READ_MIRRORED))


def test_an_encoder_may_start_in_self_critical_training_alone(tmp_path: Path) -> None:
    late = written(tmp_path, ("start_epoch: 1", "start_epoch: 9"), ("    epochs: 0", "    epochs: 2"))
    assert resolve.fine_tune(load(late)).start_epoch == 9
    never = written(
        tmp_path,
        ("start_epoch: 1", "start_epoch: 9"),
        ("    epochs: 0", "    epochs: 2"),
        ("encoder_lr: 1.0e-05", "encoder_lr: 0"),
    )
    with pytest.raises(UserError, match="would never be trained"):
        load(never)
    alone = [
        ("start: data/weights", "start: baseline"),
        ("  epochs: auto", "  epochs: 0"),
        ("    epochs: 0", "    epochs: 2"),
    ]
    assert resolve.fine_tune(load(written(tmp_path, *alone))).start_epoch == 1


def test_what_is_off_is_refused_for_no_encoder(tmp_path: Path) -> None:
    for changes in ([], [FROZEN]):
        chosen = load(written(tmp_path, *changes))
        assert resolve.augment(chosen).flip == 0
        assert resolve.fine_tune(chosen).from_block == "all"
        assert resolve.mirror(chosen) is False
    assert resolve.mirror(load(written(tmp_path, READ_MIRRORED))) is False  # the pictures are stored themselves
    for changes in ([], [READ_MIRRORED]):
        assert resolve.mirror(load(written(tmp_path, FROZEN, MIRRORED, *changes))) is True


def test_a_share_cannot_be_at_its_largest_before_it_rises(tmp_path: Path) -> None:
    path = written(tmp_path, ("first_epoch: 2", "first_epoch: 5"))
    with pytest.raises(UserError, match=r"train.scheduled_sampling.last_epoch = 4: .*before first_epoch = 5"):
        load(path)


def test_the_split_is_the_data_sets_usual_one_or_one_that_it_has(tmp_path: Path) -> None:
    for dataset, usual in (("scenes", "official"), ("flickr8k", "official"), ("coco2014", "karpathy")):
        assert resolve.split(load(written(tmp_path, ("dataset: scenes", f"dataset: {dataset}")))) == usual
    for dataset, split, said in (
        ("flickr8k", "karpathy", None),
        ("flickr30k", "official", "flickr30k has no such split; write auto or karpathy"),
        ("coco2017", "karpathy", "download.split = 'karpathy': coco2017 has no such split; write auto or official"),
    ):
        path = written(tmp_path, ("dataset: scenes", f"dataset: {dataset}"), ("split: auto", f"split: {split}"))
        if said is None:
            assert resolve.split(load(path)) == split
        else:
            with pytest.raises(UserError, match=said):
                load(path)


@pytest.mark.parametrize("dataset", ["abstract_scenes", "flickr8k", "folder"])
def test_what_was_not_drawn_here_gets_a_frozen_imagenet_encoder(tmp_path: Path, dataset: str) -> None:
    chosen = load(written(tmp_path, ("dataset: scenes", f"dataset: {dataset}")))
    assert (resolve.weights(chosen), resolve.trainable(chosen), resolve.image_size(chosen)) == (
        "imagenet",
        False,
        "enlarged",
    )


def test_the_source_folder_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONING_SOURCE", "/from/variable")
    assert resolve.source(load(ROOT / "params.yaml")) == Path("/from/variable")
    assert resolve.source(load(written(tmp_path, ("source:", "source: /from/params")))) == Path("/from/params")


def test_every_setting_is_commented_on_its_line() -> None:
    for line in PARAMS.splitlines():
        if line and not line.startswith("#") and not line.rstrip().endswith(":"):
            assert " # " in line, line


def test_every_setting_is_read_somewhere() -> None:
    """A field that no source file mentions would be a setting that does nothing."""
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("stages/*.py")]
    code = "\n".join(path.read_text() for path in sources if path.name != "settings.py")

    def leaves(model: type[BaseModel]) -> list[str]:
        names = []
        for name, field in model.model_fields.items():
            kind = field.annotation
            nested = isinstance(kind, type) and issubclass(kind, BaseModel)
            names += leaves(kind) if nested else [name]  # type: ignore[arg-type]
        return names

    resolved_in_settings = {"source", "weights", "trainable", "image_size", "regions"}
    for name in set(leaves(Settings)) - resolved_in_settings:
        assert name in code, name


NARROW, DIVERSE = ("beam_size: auto", "beam_size: 3"), ("method: beam", "method: diverse")
CONSENSUS = ("rank_by: likelihood", "rank_by: consensus")


@pytest.mark.parametrize(
    ("changes", "beam_size"),
    [
        ([], 3),
        ([("dataset: scenes", "dataset: flickr8k")], 8),
        ([("dataset: scenes", "dataset: flickr8k"), NARROW], 3),
        ([("n_best: 1", "n_best: 5")], 5),
        ([("n_best: 1", "n_best: 5"), DIVERSE], 6),
        ([("groups: 3", "groups: 2"), DIVERSE], 4),
        ([("groups: 3", "groups: 2")], 3),
    ],
)
def test_the_beam_is_as_wide_as_captions_and_groups_need(
    tmp_path: Path, changes: list[tuple[str, str]], beam_size: int
) -> None:
    assert resolve.beam_size(load(written(tmp_path, *changes))) == beam_size


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([NARROW, ("n_best: 1", "n_best: 4")], "evaluate.n_best = 4: value error, more than evaluate.beam_size, 3"),
        ([NARROW, ("n_best: 1", "n_best: 4"), ("method: beam", "method: sample")], None),
        ([("n_best: 1", "n_best: 4")], None),
        ([("min_words: 0", "min_words: 31")], "evaluate.min_words = 31: value error, more than evaluate.max_words, 30"),
        ([NARROW, ("groups: 3", "groups: 2")], None),
        ([("groups: 3", "groups: 2"), ("method: beam", "method: diverse")], None),
        ([NARROW, ("groups: 3", "groups: 2"), DIVERSE], "3, is not a multiple of evaluate.diverse"),
        ([CONSENSUS, ("beam_size: auto", "beam_size: 1")], "compares captions, and evaluate.beam_size, 1, finds one"),
        ([CONSENSUS, ("method: beam", "method: sample")], "compares captions, and evaluate.n_best, 1, finds one"),
        ([CONSENSUS, ("method: beam", "method: sample"), ("n_best: 1", "n_best: 4")], None),
        ([CONSENSUS], None),
    ],
)
def test_a_search_that_contradicts_itself_is_refused_before_any_stage_runs(
    tmp_path: Path, changes: list[tuple[str, str]], said: str | None
) -> None:
    path = written(tmp_path, *changes)
    if said is None:
        assert load(path).evaluate.n_best in (1, 4)
    else:
        with pytest.raises(UserError, match=said):
            load(path)
