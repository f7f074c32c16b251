"""params.yaml: typed, frozen, all faults at once; `auto` decided by the data set."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import pytest
import yaml
from dvc.stage.cache import _get_cache_hash
from dvc.utils.flatten import flatten, unflatten
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from captioning.settings import document, resolve, rules
from captioning.settings.resolve import load
from captioning.settings.schema import Settings
from captioning.settings.search import USUAL
from captioning.settings.sections import leaves
from captioning.settings.yaml_lines import key_lines, parse
from captioning.system.errors import UserError
from tests.properties import examples

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "params.yaml"
PARAMS = SHIPPED.read_text(encoding="utf-8")


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
    assert load(written(tmp_path, ("    lr: auto", "    lr: 1e-05"))).train.optimizer.lr == 1e-5


def test_all_faults_are_reported_at_once_with_line_and_key(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        ("encoder: mobilenet_v3_small", "encoder: 152"),
        ("    layers: 1", "    layer: 1"),
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


def test_auto_depends_on_the_data_set_and_gives_way_to_a_value() -> None:
    scenes, photographs = load(SHIPPED), load(SHIPPED, {"dataset": "flickr8k"})
    chosen = load(SHIPPED, {"features.weights": "imagenet", "features.image_size": 96})
    found = [(each.features.weights, each.features.trainable, each.features.image_size) for each in (scenes, chosen)]
    assert found == [("none", True, "quick"), ("imagenet", True, 96)]
    for dataset in ("abstract_scenes", "flickr8k", "folder"):
        features = load(SHIPPED, {"dataset": dataset}).features
        assert (features.weights, features.trainable, features.image_size) == ("imagenet", False, "enlarged")
    assert [each.train.epochs for each in (scenes, photographs)] == [3, 4]
    sizes = [(each.decoders.lstm.embedding_size, each.decoders.lstm.hidden_size) for each in (scenes, photographs)]
    assert sizes == [(256, 256), (128, 512)]


def test_nothing_that_is_resolved_is_auto_still() -> None:
    """But the device, which the machine decides."""
    for dataset in ("scenes", "coco2014"):
        values = flatten(load(SHIPPED, {"dataset": dataset}).model_dump())
        assert [key for key, value in values.items() if value == "auto"] == ["compute.device"]


def test_batchnorm_is_that_of_the_weights() -> None:
    assert [rules.batchnorm(weights) for weights in ("none", "imagenet", "own.pth")] == ["batch", "eval", "eval"]


FROZEN, MIRRORED = {"features.trainable": False}, {"features.mirror": True}
LATE, CRITICAL = {"train.encoder.start_epoch": 9}, {"train.self_critical.epochs": 2}
WARM = {"train.start": "baseline", "train.epochs": 0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (FROZEN | {"train.augment.flip": 0.5}, "train.augment.flip = 0.5 is for a trained encoder"),
        (FROZEN | {"train.augment.crop": 0.5}, "or train.augment.crop: 1.0"),
        (FROZEN | {"train.encoder.from_block": "layer4"}, "train.encoder.from_block = layer4 is for"),
        (LATE, "train.encoder.start_epoch = 9, and train.epochs = 3"),
        (LATE | CRITICAL | {"train.self_critical.encoder_lr": 0}, "would never be trained"),
        (MIRRORED, "features.mirror = true is for a frozen encoder"),
        (
            FROZEN | {"features.regions": False, "decoder": "updown"},
            "features.regions = false: the decoder updown attends to regions, and the encoder is frozen",
        ),
        (
            FROZEN | {"evaluate.mirror": True},
            "evaluate.mirror = true, and features.mirror = false stores no mirrored images",
        ),
        ({"train.epochs": 0}, "train.epochs = 0: data/weights has no decoder"),
        (WARM, "there is nothing to train"),
        (
            {"dataset": "flickr8k", "train.select": "true_captions"},
            "train.select = true_captions: flickr8k does not say what is true of its images; write cider",
        ),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused_with_its_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=rf"params.yaml, line \d+: .*{re.escape(said)}") as caught:
        load(SHIPPED, changes)
    assert "\n" not in str(caught.value)


def test_a_refusal_names_the_line_of_its_key() -> None:
    with pytest.raises(UserError) as caught:
        load(SHIPPED, MIRRORED | LATE | {"download.split": "karpathy"})
    keys = ("download.split", "features.mirror", "train.encoder.start_epoch")
    lines = PARAMS.splitlines()
    for fault, key in zip(str(caught.value).splitlines(), keys, strict=True):
        place, _, complaint = fault.partition(": ")
        assert complaint.startswith(key)
        assert lines[int(place.rpartition(" ")[2]) - 1].strip().startswith(f"{key.rpartition('.')[2]}:")


@pytest.mark.parametrize("changes", [LATE | CRITICAL, WARM | CRITICAL, FROZEN | MIRRORED, {"evaluate.mirror": True}])
def test_what_does_something_is_not_refused(changes: dict[str, Any]) -> None:
    load(SHIPPED, changes)


def test_the_split_is_the_data_sets_usual_one_or_one_that_it_has() -> None:
    for dataset, usual in (("scenes", "official"), ("flickr8k", "official"), ("coco2014", "karpathy")):
        assert load(SHIPPED, {"dataset": dataset}).download.split == usual
    assert load(SHIPPED, {"dataset": "flickr8k", "download.split": "karpathy"}).download.split == "karpathy"
    for dataset, split, said in (
        ("flickr30k", "official", "flickr30k has no such split; write auto or karpathy"),
        ("coco2017", "karpathy", "download.split = 'karpathy': coco2017 has no such split; write auto or official"),
    ):
        with pytest.raises(UserError, match=said):
            load(SHIPPED, {"dataset": dataset, "download.split": split})


def test_the_source_folder_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONING_SOURCE", "/from/variable")
    assert resolve.source(None) == Path("/from/variable")
    assert resolve.source(Path("/from/params")) == Path("/from/params")


def test_every_setting_has_the_comment_of_its_declaration() -> None:
    """Its meaning and its range are declared once; the order is that of the file, too."""
    lines = {".".join(key): PARAMS.splitlines()[line - 1] for key, line in key_lines(parse(SHIPPED)[1])}
    found = {key: line.partition(" # ")[2] for key, line in lines.items() if key in document.comments()}
    assert list(found.items()) == list(document.comments().items())


def test_the_page_of_settings_is_made_from_the_declarations() -> None:
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == document.table()


def test_a_choice_is_explained_where_it_is_declared() -> None:
    """Each value of a setting that is one of several words is in its meaning."""
    for key, field in leaves(Settings):
        choices = [word for word in get_args(field.annotation) if isinstance(word, str)]
        assert all(word in document.comments()[key] for word in choices), key


def test_there_are_at_most_90_settings() -> None:
    assert len(document.comments()) <= 90


def test_every_setting_is_read_somewhere() -> None:
    """A field that no source file mentions would be a setting that does nothing."""
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("stages/*.py")]
    code = "\n".join(path.read_text() for path in sources if path.parent.name != "settings")

    for key in document.comments():
        name = key.rpartition(".")[2]
        assert re.search(rf"\b{name}\b", code), name


NARROW, DIVERSE = {"evaluate.beam_size": 3}, {"evaluate.method": "diverse"}
SAMPLE, CONSENSUS = {"evaluate.method": "sample"}, {"evaluate.rank_by": "consensus"}


@pytest.mark.parametrize(
    ("changes", "beam_size"),
    [
        ({}, 3),
        ({"dataset": "flickr8k"}, 8),
        ({"dataset": "flickr8k"} | NARROW, 3),
        ({"evaluate.n_best": 5}, 5),
        ({"evaluate.n_best": 5} | DIVERSE, 6),
        ({"dataset": "flickr8k"} | DIVERSE, 9),
    ],
)
def test_the_beam_is_as_wide_as_captions_and_groups_need(changes: dict[str, Any], beam_size: int) -> None:
    assert load(SHIPPED, changes).evaluate.beam_size == beam_size


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (NARROW | {"evaluate.n_best": 4}, "evaluate.n_best = 4 is more than beam_size = 3"),
        (NARROW | {"evaluate.n_best": 4} | SAMPLE, None),
        ({"evaluate.n_best": 4}, None),
        (DIVERSE, None),
        ({"evaluate.beam_size": 4}, None),
        ({"evaluate.beam_size": 4} | DIVERSE, "evaluate.beam_size = 4 is not a multiple of groups = 3"),
        (CONSENSUS | {"evaluate.beam_size": 1}, "rank_by = consensus compares captions, and beam_size = 1 finds one"),
        (CONSENSUS | SAMPLE, "rank_by = consensus compares captions, and n_best = 1 finds one"),
        (CONSENSUS | SAMPLE | {"evaluate.n_best": 4}, None),
        (CONSENSUS, None),
    ],
)
def test_a_search_that_contradicts_itself_is_refused_before_any_stage_runs(
    changes: dict[str, Any], said: str | None
) -> None:
    if said is None:
        assert load(SHIPPED, changes).evaluate.n_best in (1, 4)
    else:
        with pytest.raises(UserError, match=rf"params.yaml, line \d+: .*{re.escape(said)}"):
            load(SHIPPED, changes)


def test_evaluate_searches_as_predict_does() -> None:
    """Unless either is asked for something else."""
    options = rules.search_options(load(SHIPPED))
    assert {name: getattr(options, name) for name in USUAL} == USUAL


WRONG: list[tuple[str, Any]] = [
    ("seed", True),
    ("seed", 2**64),
    ("seed", 1.0),
    ("seed", "1"),
    ("compute.threads", 10**10),
    ("compute.threads", True),
    ("compute.processes", 10**5),
    ("compute.portable", 1),
    ("compute.portable", "yes"),
    ("evaluate.beam_size", 10**9),
    ("evaluate.n_best", 10**9),
    ("decoders.transformer.width", 10**7),
    ("decoders.lstm.hidden_size", 10**7),
    ("decoders.lstm.layers", 10**6),
    ("train.epochs", 10**12),
    ("train.optimizer.lr", True),
    ("train.optimizer.lr", 1e300),
    ("train.optimizer.lr", "0.1"),
    ("train.start", ""),
    ("train.start", " "),
    ("train.start", "a\nb"),
    ("train.encoder.from_block", ""),
    ("features.image_size", 10**6),
    ("features.weights", ""),
    ("download.source", ""),
    ("download.folder", ""),
    ("download.folder", None),
    ("download.folder", True),
    ("download.scenes.train", 10**12),
    ("download.scenes.seed", 2**64),
    ("evaluate.ensemble", None),
    ("evaluate.ensemble", [1]),
    ("encoder", ""),
    ("encoder", None),
    ("encoder", "x" * 5000),
    ("split.limit", ""),
    ("split.limit", "x" * 5000),
    ("vocab", 3),
    ("vocab", None),
    ("train", ["x" * 5000]),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda part: str(part)[:20])
def test_a_value_of_another_kind_or_beyond_all_sense_is_refused_with_its_line(
    tmp_path: Path, key: str, value: Any
) -> None:
    values = yaml.safe_load(PARAMS)
    *sections, name = key.split(".")
    section = values
    for part in sections:
        section = section[part]
    section[name] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    with pytest.raises(UserError) as caught:
        load(path)
    assert all(len(line) <= 300 + len(str(path)) for line in str(caught.value).splitlines())
    number = next(line for found, line in key_lines(parse(path)[1]) if ".".join(found) == key)
    assert f"line {number}: {key} " in str(caught.value)


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=300),
    st.dates(),
    st.sampled_from(["auto", "all", "none", "null", "1e-3", "0x10", "..", "/", "~", "*", "&a"]),
)
ANYTHING = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=5
)


@examples(150)
@given(data=st.data())
def test_any_value_of_any_setting_is_taken_or_refused_in_words(data: st.DataObject) -> None:
    """Written as YAML, in place of one or two settings."""
    values = yaml.safe_load(PARAMS)
    for key in data.draw(st.lists(st.sampled_from([key for key, _ in leaves(Settings)]), min_size=1, max_size=2)):
        *sections, name = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[name] = data.draw(ANYTHING)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        try:
            settings = load(path)
        except UserError as fault:
            lines = str(fault).splitlines()
        else:
            lines = []
            assert isinstance(settings, Settings)
    assert all(line.startswith(str(path)) and len(line) <= 300 + len(str(path)) for line in lines)
