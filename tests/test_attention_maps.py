"""Attention as a figure: light lies where the encoder read, words and tiles agree, and the same bytes every time."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from captioning import decoders
from captioning.captioner.ensembles import Captioners
from captioning.captioner.model import Captioner
from captioning.cli import predict
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.base import AttendingDecoder
from captioning.evaluation import attending, attention_boxes, attention_maps, attention_sheets
from captioning.evaluation.attending import Attended
from captioning.models.python import TrainedModel
from captioning.system.archives import ImageArchives, write_zip
from captioning.system.errors import UserError
from captioning.vision.contact_sheets import TILE, sheet
from captioning.vision.encoders import backbones, encoders
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.images import Transform
from tests import variants
from tests.photographs import jpeg
from tests.project import OWN, Project
from tests.special import BOS, PAD

WORDS = ("a", "dog", "runs", "two", "birds", "sing")
GREY = (0.5, 0.5, 0.5)
SIDES = st.integers(8, 300)
COUNTS = st.tuples(st.integers(1, 7), st.integers(1, 7))
SLACK = 0.012  # of a side: colours are 255 steps


def transform(image_size: int, resize: int) -> Transform:
    return Transform(image_size, resize, "bilinear", GREY, GREY)


def captioner(variant: str = "attention-soft", words: tuple[str, ...] = WORDS) -> Captioner:
    """A model of nine regions, not trained."""
    made = backbones.transform_for("squeezenet1_1", 64, pretrained=False)
    encoder = encoders.freeze(encoders.build("squeezenet1_1", transform=made, weights={}))
    name = variants.VARIANTS[variant][0]
    torch.manual_seed(1)
    decoder = decoders.build(name, Vocabulary(SPECIAL + words), encoder.dim, variants.options(variant)).eval()
    card: Any = SimpleNamespace(decoder=name, encoder="squeezenet1_1", objects={}, placed_objects={}, vector_width=None)
    return Captioner(encoder, decoder, made, Vocabulary(SPECIAL + words), card)


def encoded(model: Captioner, count: int = 1) -> Encoded:
    regions = torch.randn(count, 9, model.encoder.dim, generator=torch.Generator().manual_seed(2))
    return Encoded(regions.mean(1), regions)


def attended(words: str, rows: int = 2, columns: int = 3) -> Attended:
    """Each word looks at one region, in turn."""
    weights = np.eye(rows * columns, dtype=np.float32)[[i % (rows * columns) for i in range(len(words.split()) + 1)]]
    return Attended((*words.split(), "<eos>"), weights.reshape(-1, rows, columns))


def tint(tile: np.ndarray) -> np.ndarray:
    """How much redder than blue each pixel is: (height, width)."""
    return tile[..., 0].astype(int) - tile[..., 2]


def tiles(monkeypatch: pytest.MonkeyPatch, image: Image.Image, looked: Attended, how: Transform) -> list[np.ndarray]:
    """The tiles of a sheet, as they were laid on it; what is beneath them must be the words."""
    laid: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(attention_maps, "sheet", lambda *args, columns: (laid.append(args), sheet(*args, columns))[1])
        attention_maps.draw(image, looked, how)
    [(found, words)] = laid
    assert words == ["", *looked.words]
    return [np.asarray(tile) for tile in found]


def line(values: np.ndarray, side: int, stretched: int) -> np.polynomial.Polynomial:
    """The place in the image, as a share of its side, that a place in `values` (S,) was read from.

    Resizing flattens the colours at the edges of the image, by the width of its filter: there no line is fitted.
    """
    edge = 1 / min(side, stretched) + 1 / 255
    kept = (values > edge) & (values < 1 - edge)
    return np.polynomial.Polynomial.fit(np.flatnonzero(kept) + 0.5, values[kept], 1)


@given(
    sides=st.tuples(SIDES, SIDES),
    size=st.integers(16, 64),
    more=st.integers(0, 24),
    counts=COUNTS,
    where=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)
@example(sides=(8, 8), size=16, more=0, counts=(2, 4), where=(0.0, 0.25))  # no pixel in the middle of a region
def test_light_lies_where_the_encoder_read(
    sides: tuple[int, int], size: int, more: int, counts: tuple[int, int], where: tuple[float, float]
) -> None:
    """Of an image whose colours say where they are, the light of a region covers what its part of the pixels says."""
    (width, height), how = sides, transform(size, size + more)
    region = tuple(int(share * count) for share, count in zip(where, counts, strict=True))
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    read = how.pixels(Image.fromarray(np.rint(np.stack([y, x, x], axis=2) * 255).astype(np.uint8))) / 255  # (3, S, S)
    profiles = []
    for axis, (count, index) in enumerate(zip(counts, region, strict=True)):
        band = np.zeros(counts)
        np.moveaxis(band, axis, 0)[index] = 1  # a row or column: where no pixel is in the middle of a region, the
        found = attention_maps.heat(band, how.seen(sides), sides)  # light of a single one is below 1 everywhere
        assert found.shape == (height, width)
        assert np.ptp(found, axis=1 - axis).max() == 0
        profiles.append(found.max(axis=1 - axis))
        stretched = int((size + more) * (height, width)[axis] / min(sides))
        fitted = line(read[axis].mean(axis=1 - axis), (height, width)[axis], stretched)
        first, begin, end, last = fitted(np.array([0, index / count, (index + 1) / count, 1]) * size)
        places = (np.arange(found.shape[axis]) + 0.5) / found.shape[axis]
        lit = profiles[axis] >= 0.5  # half of the light is lost where the next region begins
        assert lit[(places > begin + SLACK) & (places < end - SLACK)].all()
        others = ((places > first) & (places < begin - SLACK)) | ((places > end + SLACK) & (places < last))
        assert not lit[others].any()
    one = np.zeros(counts)
    one[region] = 1
    np.testing.assert_allclose(attention_maps.heat(one, how.seen(sides), sides), np.outer(*profiles), atol=1e-12)


def test_heat_is_bilinear_between_the_middles_of_regions_and_level_beyond() -> None:
    found = attention_maps.heat(np.array([[0.0, 1.0]]), (2, 0, 10, 4), (12, 4))
    assert found[3].tolist() == [0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1]
    turned = attention_maps.heat(np.array([[0.0], [1.0]]), (0, 2, 4, 10), (4, 12))
    np.testing.assert_array_equal(turned, found.T)


def test_a_tile_is_tinted_grey_and_faded_where_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle square of a wide image, in tiles of 240 × 120: from 60 to 180."""
    white = Image.new("RGB", (200, 100), "white")
    plain, first, second, _ = tiles(monkeypatch, white, attended("two birds", 2, 2), transform(64, 64))
    assert plain.shape == (120, 240, 3)
    assert plain.min() == 255
    for tile, hot, cold in ((first, (30, 90), (90, 150)), (second, (30, 150), (30, 90))):
        assert tint(tile)[hot] > 150
        assert tint(tile)[cold] < 20
        beside = np.concatenate([tile[:, :60], tile[:, 180:]], axis=1).reshape(-1, 3)
        assert len(np.unique(beside, axis=0)) == 1
        assert tile[cold].max() < beside.min() < 255


@pytest.mark.parametrize("even", [0.0625, 0.25])  # 1 / R, and what fills the scale
def test_words_share_one_scale(monkeypatch: pytest.MonkeyPatch, even: float) -> None:
    """Tint is a share of the greatest weight, or of four times an even look where no weight is so great."""
    white, how = Image.new("RGB", (100, 100), "white"), transform(64, 64)
    one = np.zeros((1, 4, 4), dtype=np.float32)
    one[0, 0, 0] = 1
    level = np.full((1, 4, 4), even, dtype=np.float32)
    chosen, beside = tiles(monkeypatch, white, Attended(("dog", "<eos>"), np.concatenate([one, level])), how)[1:]
    [alone] = tiles(monkeypatch, white, Attended(("<eos>",), level), how)[1:]
    cold, hot = chosen[180, 180].astype(float), chosen[30, 30].astype(float)
    for tile, share in ((beside, even), (alone, min(1, 4 * even))):
        assert len(np.unique(tile.reshape(-1, 3), axis=0)) == 1
        np.testing.assert_allclose(tile[0, 0], cold + (hot - cold) * share, atol=4)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (4000, 3), (31, 17), (1200, 1600)])
def test_images_of_any_shape_have_their_attention_on_the_sheet(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    plain, *words = tiles(monkeypatch, Image.new("RGB", size, "white"), attended("a dog runs", 2, 2), transform(64, 72))
    assert max(plain.shape) == TILE
    assert min(plain.shape[:2]) >= TILE // 2
    for tile in words:
        assert tile.shape == plain.shape
        assert tint(tile).max() > 150
        assert np.median(tint(tile)) < 20


def test_long_captions_and_words_stay_on_the_sheet() -> None:
    image = Image.new("RGB", (30, 60), "white")
    for words in ("donaudampfschifffahrtsgesellschaft" * 3, "ein größeres Fähnchen", "犬が走る собака", "a " * 60, ""):
        drawn = attention_maps.draw(image, attended(words), transform(64, 64))
        assert drawn.width <= 1640
        assert drawn.height > TILE


def test_each_letter_without_spaces_has_a_tile_and_the_caption_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    model = captioner(words=("一", "只", "狗"))
    looked = attending.attend(model, encoded(model), "一只狗")
    assert looked.words == ("一", "只", "狗", "<eos>")
    captions: list[str] = []
    monkeypatch.setattr(attention_maps, "with_scale", lambda _body, caption, *_rest: captions.append(caption))
    attention_maps.draw(Image.new("RGB", (60, 40)), looked, transform(64, 64))
    assert captions == ["一只狗"]


@pytest.mark.parametrize("variant", variants.ATTENDING)
def test_each_word_has_the_attention_that_chose_it(variant: str) -> None:
    model = captioner(variant)
    assert isinstance(model.decoder, AttendingDecoder)
    found = attending.attend(model, encoded(model), "two birds sing")
    assert found.words == ("two", "birds", "sing", "<eos>")
    assert found.weights.shape == (4, 3, 3)
    np.testing.assert_allclose(found.weights.sum(axis=(1, 2)), 1, atol=1e-5)
    batch = torch.tensor([[BOS, 7, 8, 9, PAD], [BOS, 4, 5, 6, 6]])
    with torch.inference_mode():
        together = model.decoder.attention(encoded(model), batch, torch.tensor([0, 0]))
    np.testing.assert_allclose(found.weights.reshape(4, 9), together[0, :4], atol=1e-5)
    assert attending.attend(model, encoded(model), "").words == ("<eos>",)


def test_a_model_without_attention_or_grid_is_refused_in_words() -> None:
    assert attending.refusal(captioner()) is None
    said = attending.refusal(captioner("lstm"))
    assert said == "the decoder lstm does not attend to regions, so it has no attention to draw"
    model = captioner()
    model.encoder.grid = None
    assert "squeezenet1_1 form no grid" in str(attending.refusal(model))


def written(folder: Path, model: Captioner) -> dict[str, bytes]:
    """What `write` leaves of two groups of images, and of two images whose names are alike once they are safe."""
    ids = ["trip/one: é", "trip\\one: é"]
    write_zip(folder / "photos.zip", [("0.jpg", jpeg(0)), ("1.jpg", jpeg(1))])
    rows = {"image_id": ids, "file": ["photos.zip/0.jpg", "photos.zip/1.jpg"], "coco_id": [7, 8]}
    table = pd.DataFrame({**rows, "hypothesis": ["a dog runs", "two birds"]})
    answers = {coco_id: encoded(model, 2).rows([row]) for row, coco_id in enumerate((7, 8))}
    with ImageArchives(folder) as images:
        chosen = {"best": table, "random": table.iloc[1:]}
        attention_sheets.write(folder / "attention", chosen, images, model, answers.__getitem__)
    return {path.name: path.read_bytes() for path in sorted((folder / "attention").iterdir())}


def test_of_objects_the_best_box_is_in_colour_and_frames_are_as_strong_as_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wide image, of which the middle square is seen: tiles of 240 × 120, where boxes begin at 60."""
    sky = Image.new("RGB", (200, 100), (40, 90, 230))
    boxes = np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    weights = np.array([[0.1, 0.8, 0.1], [0.0, 0.4, 0.6], [0.6, 0.4, 0.0]])
    looked = Attended(("a", "dog", "<eos>"), weights, boxes)
    laid: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(attention_maps, "sheet", lambda *args, columns: (laid.append(args), sheet(*args, columns))[1])
        drawn = attention_sheets.draw(sky, looked, transform(64, 64))
    assert drawn.tobytes() == attention_boxes.draw(sky, looked, transform(64, 64)).tobytes()
    first, second, last = (np.asarray(tile).astype(int) for tile in laid[0][0][1:])
    inside = {1: (30, 90), 2: (90, 150)}
    for tile, best in ((first, 1), (second, 2)):
        assert tuple(tile[inside[best]]) == (40, 90, 230)
        assert np.ptp(tile[inside[3 - best]]) == 0  # grey
        assert tile[60, 30].min() > tile[inside[3 - best]].max()  # not seen: faded
    assert tuple(last[60, 90]) == tuple(last[90, 150]) == (40, 90, 230)  # the whole image
    heat = np.array(attention_maps.HEAT)
    np.testing.assert_allclose(first[2, 90], 0.8 * heat + 0.2 * np.array([40, 90, 230]), atol=2)
    np.testing.assert_allclose(second[30, 60], 0.4 * heat + 0.6 * second[inside[1]], atol=2)
    assert tuple(last[90, 120]) == (40, 90, 230)  # no weight, no frame


def test_samples_are_written_with_words_and_weights_and_the_same_bytes(tmp_path: Path) -> None:
    model = captioner()
    files = written(tmp_path / "first", model)
    assert files == written(tmp_path / "second", captioner())
    names = ["best-01-trip-one-é", "best-02-trip-one-é", "random-01-trip-one-é"]
    assert list(files) == [*(f"{name}.png" for name in names[:2]), "index.json", f"{names[2]}.png", "weights.npz"]
    index = json.loads(files["index.json"])
    assert (index["decoder"], index["grid"], index["refusal"]) == ("attention", [3, 3], None)
    assert [row["words"] for row in index["pictures"]] == [
        ["a", "dog", "runs", "<eos>"],
        ["two", "birds", "<eos>"],
        ["two", "birds", "<eos>"],
    ]
    with np.load(tmp_path / "first/attention/weights.npz") as weights:
        assert sorted(weights) == sorted(names)
        assert weights[names[0]].dtype == np.float16
        expected = attending.attend(model, encoded(model, 2).rows([1]), "two birds")
        np.testing.assert_allclose(weights[names[1]], expected.weights, atol=1e-3)
    assert files[f"{names[1]}.png"] == files[f"{names[2]}.png"]
    assert files[f"{names[0]}.png"] != files[f"{names[1]}.png"]


def test_a_model_without_attention_leaves_an_index_that_says_so(tmp_path: Path) -> None:
    files = written(tmp_path, captioner("lstm"))
    assert list(files) == ["index.json"]
    assert json.loads(files["index.json"])["refusal"] == attending.refusal(captioner("lstm"))


PARTS = st.sampled_from(["a", "A", "é", "x-attention", "x", "a b", "é" * 124])
PATHS = st.builds(lambda folder, stem, suffix: Path(folder) / f"{stem}{suffix}", PARTS, PARTS, st.just(".png"))


@given(images=st.lists(PATHS, max_size=12), folder=PARTS)
def test_no_two_images_share_a_sheet_and_no_image_is_written_over(images: list[Path], folder: str) -> None:
    found = attention_sheets.file_names(Path(folder), images)
    assert found.keys() == set(images)
    names = [str(path).casefold() for path in found.values()]
    assert len(set(names)) == len(names)
    assert not {str(path).casefold() for path in images} & set(names)
    assert all(path.parent == Path(folder) and len(path.name.encode()) < 255 for path in found.values())


def test_images_of_one_name_are_counted() -> None:
    found = attention_sheets.file_names(Path("out"), [Path("a/x.jpg"), Path("b/x.jpg"), Path("x.png")])
    assert [path.name for path in found.values()] == ["x-attention.png", "x-attention-2.png", "x-attention-3.png"]


def test_sheets_go_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--attention .*file: cannot be created \(File exists\); name another"):
        predict._sheets(TrainedModel(Captioners((captioner(),)), ["x"]), tmp_path / "file", [])
    assert predict._sheets(TrainedModel(Captioners((captioner(),)), ["x"]), tmp_path / "new", [Path("x.png")]) == {
        Path("x.png"): tmp_path / "new/x-attention.png"
    }


def test_an_ensemble_has_no_sheet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--attention: it shows where one model looks, and several are averaged"):
        predict._sheets(TrainedModel(Captioners((captioner(), captioner())), ["x", "y"]), tmp_path / "new", [])
    assert not (tmp_path / "new").exists()


def test_attention_is_drawn_by_evaluate_and_by_predict(copy: Project) -> None:
    copy.run("dvc", "exp", "run", "-S", "decoder=attention", "-S", "features.image_size=64", "-S", "train.epochs=1")
    index = json.loads(copy.read("data/evaluate/attention/index.json"))
    said = {row["image_id"]: row["caption"].split() for row in json.loads(copy.read("data/evaluate/captions.json"))}
    ids = dict(
        pd.read_csv(copy.folder / "data/split/images.csv", dtype={"image_id": str})[["image_id", "coco_id"]].values
    )
    assert (index["grid"], len(index["pictures"])) == ([2, 2], 18)
    for row in index["pictures"]:
        assert row["words"] == [*said[ids[row["image_id"]]], "<eos>"]
        with Image.open(copy.folder / "data/evaluate/attention" / row["file"]) as drawn:
            assert drawn.width > TILE
    image = Image.open(copy.folder / "data/evaluate/gallery/test.png")
    for name in ("a/photo.jpg", "b/photo.jpg", "photo.jpg"):
        (copy.folder / name).parent.mkdir(exist_ok=True)
        image.save(copy.folder / name)
    copy.run("captioning", "predict", *OWN, "--attention", "looked", "photo.jpg")
    once = (copy.folder / "looked/photo-attention.png").read_bytes()
    done = copy.run("captioning", "predict", *OWN, "--format", "jsonl", "--attention", "looked", "a", "b", "photo.jpg")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["attention"] for row in rows] == [f"looked/photo-attention{end}.png" for end in ("", "-2", "-3")]
    assert [(copy.folder / row["attention"]).read_bytes() for row in rows] == [once] * 3


def test_a_decoder_that_does_not_attend_draws_nothing_and_says_so(project: Project, tmp_path: Path) -> None:
    index = json.loads(project.read("data/evaluate/attention/index.json"))
    assert index["pictures"] == []
    assert "lstm does not attend" in index["refusal"]
    gallery = str(project.folder / "data/evaluate/gallery")
    done = project.run("captioning", "predict", *OWN, "--attention", str(tmp_path / "out"), gallery, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert done.stderr.startswith("error: --attention: the decoder lstm does not attend")
    assert not (tmp_path / "out").exists()
