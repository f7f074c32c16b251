"""Captioners of transformers, by classes of their own with random weights: captions, scores, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

import captioning
from captioning.cli.app import app
from captioning.models import outside
from captioning.models.outside import OutsideModel
from captioning.system.errors import UserError
from tests import outside_models
from tests.outside_models import KINDS, SPECIAL, WORDS
from tests.test_ensembles import folder as trained


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: outside_models.made(kind, tmp_path_factory.mktemp("outside") / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Any]:
    return {kind: captioning.load(f"hf:{folder}") for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    colours = ["red", "white", "navy", "lime"]
    return [Image.new("RGB", (50, 40), colour) for colour in colours]


@pytest.mark.parametrize("kind", KINDS)
def test_each_class_captions_images(models: dict[str, Any], images: list[Image.Image], kind: str) -> None:
    model = models[kind]
    assert isinstance(model, captioning.Model)
    captions = model(images)
    assert {word for caption in captions for word in caption.words} <= {*WORDS, *SPECIAL}
    assert len({caption.log_probability for caption in captions}) == len(images)
    for caption in captions:
        assert (caption.confidence, caption.attention) == (None, None)
    alone = [model(image) for image in images]
    assert [caption.text for caption in alone] == [caption.text for caption in captions]
    assert [one.score for one in alone] == pytest.approx([caption.score for caption in captions], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_has_different_captions_best_first(models: dict[str, Any], images: list[Image.Image], kind: str) -> None:
    for captions in models[kind](images, n_best=3, beam_size=4):
        assert 1 <= len(captions) <= 3
        assert len({caption.text for caption in captions}) == len(captions)
        assert [caption.score for caption in captions] == sorted((c.score for c in captions), reverse=True)
        assert all(caption.log_probability <= caption.score < 0 for caption in captions)
    assert any(len(captions) > 1 for captions in models[kind](images, n_best=3, beam_size=4, length_penalty=0))


def after(kind: str, network: Any, inputs: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """Logits (1, T, V) of teacher forcing: what follows each token."""
    if kind in ("blip", "git"):
        return network(input_ids=ids, **inputs).logits[:, -ids.shape[1] :]
    return network(decoder_input_ids=ids, **inputs).logits


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_log_probabilities_are_those_of_teacher_forcing(
    models: dict[str, OutsideModel], images: list[Image.Image], kind: str, beams: int
) -> None:
    network, read, _, prompt = models[kind]._parts
    size = {"num_beams": beams, "max_new_tokens": 2 * 30 + 1, "do_sample": False}
    for image, caption in zip(images[:2], models[kind](images[:2], beam_size=beams), strict=True):
        inputs = dict(
            read(text=[prompt], images=[image], return_tensors="pt") if prompt else read(image, return_tensors="pt")
        )
        [ids] = network.generate(**inputs, **size)
        if 3 in ids[1:]:  # the end
            ids = ids[: 2 + ids[1:].tolist().index(3)]
        logits = after(kind, network, inputs, ids[None, :-1])
        nats = logits.log_softmax(-1)[0].gather(1, ids[1:, None]).sum()
        assert caption.log_probability == pytest.approx(float(nats), rel=1e-4)
        assert caption.score == pytest.approx(float(nats) / (len(ids) - 1), rel=1e-4)


def test_sampling_is_by_seed_and_image_and_not_by_batch(models: dict[str, Any], images: list[Image.Image]) -> None:
    def drawn(listed: list[Image.Image], seed: int) -> list[list[str]]:
        found = models["git"](listed, method="sample", seed=seed, n_best=2, temperature=1.5, max_words=5)
        return [[caption.text for caption in captions] for captions in found]

    before = torch.random.get_rng_state()
    first = drawn(images, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert drawn(images[2:], 1) == first[2:]
    assert drawn(images, 2) != first


def test_captions_have_no_more_words_than_are_asked_for(models: dict[str, Any], images: list[Image.Image]) -> None:
    lengths = [len(caption.text.split()) for caption in models["vit_gpt2"](images, max_words=2)]
    assert max(lengths) == 2


def test_the_beam_is_the_authors(folders: dict[str, Path], models: dict[str, Any], tmp_path: Path) -> None:
    wide = shutil.copytree(folders["git"], tmp_path / "wide")
    path = wide / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_beams": 5}))
    model = captioning.load(f"hf:{wide}")
    assert model.options().beam_size == 5
    assert model.options(beam_size=2).beam_size == 2
    assert [models["git"].options(n_best=count).beam_size for count in (1, 4)] == [1, 4]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"must": ["dog"]}, "has no must"),
        ({"min_words": 3}, "has no min_words"),
        ({"repeat_ngram": 2}, "has no repeat_ngram"),
        ({"rank_by": "consensus", "beam_size": 4}, "has no rank_by"),
        ({"method": "diverse"}, "has no method = diverse"),
        ({"n_best": 4, "beam_size": 2}, "n_best = 4 is more than beam_size = 2"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    models: dict[str, Any], images: list[Image.Image], asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as fault:
        models["blip"](images[0], **asked)
    assert "\n" not in str(fault.value)
    with pytest.raises(TypeError, match="no option of the search: beams"):
        models["blip"](images[0], beams=3)
    with pytest.raises(UserError, match="no attention to draw"):
        models["blip"].sheet(images[0], models["blip"](images[0]))


def without_a_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def of_another_type(folder: Path) -> None:
    change(folder, model_type="llava")


def with_pickles_alone(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def without_a_layer(folder: Path) -> None:
    path = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if "layer.1.output.dense" not in name}
    save_file(kept, path, {"format": "pt"})


def with_other_sizes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(folder, text_config=config["text_config"] | {"vocab_size": 99})


def without_a_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_a_config, "no config.json of a model"),
        (of_another_type, "a model of type llava; there are blip, git, vision-encoder-decoder, florence2"),
        (with_pickles_alone, r"no \*\.safetensors in it, and other weights are not read"),
        (cut_short, "transformers cannot read it"),
        (without_a_layer, "weights of BlipForConditionalGeneration are missing or of another shape"),
        (with_other_sizes, "cannot read it|missing or of another shape"),
        (without_a_tokenizer, "transformers cannot read it"),
    ],
)
def test_a_folder_that_is_no_whole_captioner_is_one_line(
    folders: dict[str, Path], tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    folder = shutil.copytree(folders["blip"], tmp_path / "blip")
    spoil(folder)
    with pytest.raises(UserError, match=said) as fault:
        captioning.load(f"hf:{folder}")
    assert "\n" not in str(fault.value)
    assert str(fault.value).startswith(f"hf:{folder}: ")


def test_code_of_a_model_is_never_run(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["blip"], tmp_path / "blip")
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: ...\n")
    change(folder, auto_map={"AutoConfig": "mine.Mine", "AutoModelForImageTextToText": "mine.Mine"})
    assert type(captioning.load(f"hf:{folder}")._parts.network).__name__ == "BlipForConditionalGeneration"  # type: ignore[attr-defined]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (["hf:a", "photographs"], {}, "--model hf:a: its probabilities cannot be averaged"),
        ("hf:a", {"repo": "x"}, "--repo: of this library's own models"),
        ("hf:a", {"mirror": True}, "--mirror: of this library's own models"),
        ("hf:./nowhere/blip", {}, "no such folder, and no name of the Hugging Face hub"),
    ],
)
def test_names_that_do_not_fit_are_one_line(names: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        captioning.load(names, **options)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'captioning\[hf\]'"):
        captioning.load("hf:a")


def predict(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", "--threads", "1", *map(str, arguments)])


@pytest.fixture
def photographs(tmp_path: Path, images: list[Image.Image]) -> Path:
    folder = tmp_path / "trip"
    folder.mkdir()
    for number, image in enumerate(images):
        image.save(folder / f"{number}.png")
    return folder


def test_captions_go_where_those_of_other_models_go(
    folders: dict[str, Path], models: dict[str, Any], photographs: Path, tmp_path: Path
) -> None:
    model, paths = f"hf:{folders['blip']}", sorted(photographs.glob("*.png"))
    texts = [caption.text for caption in models["blip"](paths)]
    printed = predict(photographs, "--model", model, "--write", "txt")
    assert printed.stdout.splitlines() == [f"{path}\t{text}" for path, text in zip(paths, texts, strict=True)]
    assert "BlipForConditionalGeneration of transformers" in printed.stderr
    assert [path.with_suffix(".txt").read_text().strip() for path in paths] == texts

    table = tmp_path / "captions.csv"
    assert predict(*paths[:2], "--model", model, "--out", table, "--format", "csv").exit_code == 0
    resumed = predict(photographs, "--model", model, "--out", table, "--format", "csv")
    assert "2 of 4 files have their captions already" in resumed.stderr
    rows = table.read_text().splitlines()
    assert [row.split(",")[1:3] for row in rows] == [["caption", "confidence"], *([text, ""] for text in texts)]

    lines = predict(photographs, "--model", model, "--format", "jsonl", "--n-best", "2").stdout.splitlines()
    assert [json.loads(line)["caption"] for line in lines] == [
        captions[0].text for captions in models["blip"](paths, n_best=2)
    ]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--abstain", ".3"], "--abstain: this model has no calibrated confidence"),
        (["--attention", "looked"], "--attention: a captioner of transformers does not say where it looked"),
        (["--must", "dog"], "has no must"),
        (["--mirror"], "--mirror: of this library's own models"),
        (["--model", "photographs"], "cannot be averaged"),
    ],
)
def test_options_that_it_has_not_are_refused(
    folders: dict[str, Path], photographs: Path, option: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photographs)
    done = predict("0.png", "--model", f"hf:{folders['blip']}", *option)
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)
    assert not Path("looked").exists()


def test_it_is_not_served(folders: dict[str, Path]) -> None:
    done = CliRunner().invoke(app, ["serve", "--model", f"hf:{folders['blip']}"])
    assert isinstance(done.exception, UserError)
    assert "models of this library only" in str(done.exception)


def test_models_of_this_library_and_others_stand_in_one_process(
    models: dict[str, Any], images: list[Image.Image], tmp_path: Path
) -> None:
    ours = captioning.load(trained(tmp_path / "model"))
    expected = models["blip"](images[0]).text
    assert ours(images[0]).text
    assert models["blip"](images[0]).text == expected
