"""The Python interface: what an image may be, what is returned, threads, and what importing costs."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captioning
from captioning.captioner.confidence import Calibration
from captioning.models import choice, sources
from captioning.models.python import TrainedModel
from captioning.system.errors import UserError
from tests.noise import noise
from tests.test_ensembles import folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A model that attends to a grid, drawn at random."""
    return captioning.load(
        folder(tmp_path_factory.mktemp("model") / "a", "attention-soft", encoder="resnet18", side=64)
    )


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [noise((70 + n, 50), 80).rotate(n) for n in range(5)]


def test_importing_loads_no_torch_and_the_names_are_there() -> None:
    code = (
        "import sys, captioning\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), sorted(sys.modules)\n"
        "assert {'load', 'Caption', 'Model', 'UserError'} <= set(dir(captioning))\n"
        "captioning.UserError\n"
        "assert 'torch' not in sys.modules\n"
        "captioning.load\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        captioning.nonsense  # noqa: B018
    assert (Path(captioning.__file__).parent / "py.typed").is_file()


def test_an_image_may_be_many_things(model: TrainedModel, images: list[Image.Image], tmp_path: Path) -> None:
    image = images[0]
    path = tmp_path / "photo.png"
    image.save(path)
    array = np.asarray(image)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    expected = model(path)
    assert expected.text
    for other in (str(path), path.read_bytes(), image, array, tensor, tensor.float() / 255, array / 255.0):
        assert model(other) == expected
    with path.open("rb") as stream:
        assert model(stream) == expected
    assert model(io.BytesIO(path.read_bytes())) == expected
    grey = image.convert("L")
    alike = (model(grey), model(np.asarray(grey)), model(np.asarray(grey)[..., None]), model(grey.convert("RGB")))
    assert len({caption.text for caption in alike}) == 1


def test_a_pillow_image_is_read_as_its_file_would_be(tmp_path: Path) -> None:
    """Turned as its EXIF says, on white where it is transparent, 16 bits scaled to 8."""
    turned = Image.new("RGB", (8, 4), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    deep = Image.fromarray(np.full((4, 4), 40000, np.uint16))
    deep.save(tmp_path / "deep.png")
    for name in ("turned", "clear", "deep"):
        path = tmp_path / f"{name}.png"
        one, other = sources.read(path).image, sources.read(Image.open(path)).image
        assert one.size == other.size
        assert one.tobytes() == other.tobytes()
    assert sources.read(tmp_path / "turned.png").image.size == (4, 8)
    assert sources.read(clear).image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("source", "fault", "said"),
    [
        ("https://example.org/a.jpg", UserError, "addresses are not read; download"),
        (np.zeros((4, 4, 5), np.uint8), UserError, r"an image of shape \(4, 4, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), UserError, "an image of shape"),
        (np.zeros(7, np.uint8), UserError, "an image of shape"),
        (np.full((4, 4, 3), 2.0), UserError, "outside 0 to 1"),
        (np.full((4, 4, 3), np.nan), UserError, "outside 0 to 1"),
        (np.zeros((4, 4, 3), np.int32), UserError, "an image of int32"),
        (b"no image", UserError, "not an image that can be decoded"),
        (b"", UserError, "the file is empty"),
        (7, TypeError, "int is no image"),
        (io.StringIO("x"), TypeError, "binary mode"),
    ],
)
def test_what_is_no_image_is_refused(source: object, fault: type[Exception], said: str) -> None:
    with pytest.raises(fault, match=said):
        sources.read(source)


def test_a_missing_file_is_an_os_error(model: TrainedModel) -> None:
    with pytest.raises(FileNotFoundError):
        model("nowhere.jpg")


def test_one_image_or_several_one_caption_or_several(model: TrainedModel, images: list[Image.Image]) -> None:
    one = model(images[0])
    assert isinstance(one, captioning.Caption)
    assert str(one) == one.text == " ".join(one.words)
    several = model(images)
    assert several[0].text == one.text
    listed = model(images[0], n_best=3)
    assert [type(caption) for caption in listed] == [captioning.Caption] * 3
    assert len({caption.text for caption in listed}) == 3
    both = model(images[:2], n_best=2)
    assert [len(captions) for captions in both] == [2, 2]
    assert [len(captions) for captions in model(images[:1], n_best=1)] == [1]
    assert model([]) == []


def test_the_batch_size_changes_no_caption(model: TrainedModel, images: list[Image.Image]) -> None:
    together, alone = model(images), model(images, batch_size=1)
    assert [caption.text for caption in together] == [caption.text for caption in alone]


def test_options_are_those_of_predict(model: TrainedModel, images: list[Image.Image]) -> None:
    word = model.captioners.vocabulary.words[7]
    assert word in model(images[0], must=[word]).words
    lists = model(images[:2], n_best=2, must=[word])
    assert [word in caption.words for captions in lists for caption in captions] == [True] * 4
    assert word in model(images[0], must=word).words
    assert len(model(images[0], min_words=6, max_words=6).words) == 6
    drawn = [model(images[0], method="sample", seed=seed, n_best=3) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(TypeError, match="no option of the search: beams"):
        model(images[0], beams=3)
    with pytest.raises(UserError, match="has no word 'zebra'"):
        model(images[0], must=["zebra"])


def test_attention_is_computed_when_it_is_asked_for(model: TrainedModel, images: list[Image.Image]) -> None:
    caption = model(images[0])
    weights = caption.attention
    assert weights is not None
    assert weights.shape == (len(caption.words) + 1, 2, 2)
    assert np.allclose(weights.sum((1, 2)), 1, atol=1e-5)
    assert caption.attention is weights
    sheet = model.sheet(images[0], caption)
    assert sheet.width > 300


def test_a_model_that_does_not_attend_has_none(tmp_path: Path, images: list[Image.Image]) -> None:
    plain = captioning.load(folder(tmp_path / "b"))
    caption = plain(images[0])
    assert caption.attention is None
    assert caption.confidence is None
    with pytest.raises(UserError, match="no attention to draw"):
        plain.sheet(images[0], caption)


def test_confidence_is_that_of_the_calibration(model: TrainedModel, images: list[Image.Image]) -> None:
    calibration = Calibration((0.0,) * 4, (1.0,) * 4, (0.0,) * 4, 0.0, "half of all", 9)
    member = replace(model.captioners.members[0], calibration=calibration)
    sure = TrainedModel(replace(model.captioners, members=(member,)), ["sure"])
    assert sure(images[0]).confidence == 0.5
    assert sure(images[0]).record()["confidence"] == 0.5
    assert "confidence" not in model(images[0]).record()
    assert TrainedModel(replace(model.captioners, members=(member, member)), ["two"])(images[0]).confidence is None


def test_several_threads_get_the_captions_of_one(model: TrainedModel, images: list[Image.Image]) -> None:
    expected = [model(image).text for image in images]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: model(images[n % 5]).text, range(40)))
    assert found == expected * 8


def test_several_models_are_one(tmp_path: Path, images: list[Image.Image]) -> None:
    folders = [folder(tmp_path / "a"), folder(tmp_path / "b", seed=2)]
    both = captioning.load(folders)
    assert len(both.captioners.members) == 2
    assert both(images[0]).text
    with pytest.raises(UserError, match="no model is named"):
        captioning.load([])


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--model nonsuch: no such folder, and no revision"):
        captioning.load("nonsuch")


def test_a_model_for_photographs_that_was_trained_here_is_the_usual_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("")
    made = folder(tmp_path / choice.TRAINED)
    assert choice.default().folder == made  # its data set is not known, so it is nobody's drawings
    monkeypatch.setitem(choice.CONTENT, "", "drawings")
    monkeypatch.setattr(choice.shipped, "names", list)
    assert choice.default().folder == made  # of drawings, but there is no other
