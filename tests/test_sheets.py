"""Sheets of captioned images: no word is lost, marks are where they belong, and they stand on any page."""

import csv
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from captioning.evaluation import captioned
from captioning.evaluation.captioned import Shown, hero, mark, with_scale
from captioning.vision.contact_sheets import PAPER, TILE, grid
from tests.project import Project

BLUE = (40, 80, 200)
LONG = "a girl in a purple dress is holding a green umbrella beside a very tall house in the rain on a cloudy day"


def shown(caption: str, true: bool | None = None, reference: str = "a boy is sitting") -> Shown:
    return Shown(Image.new("RGB", (64, 64), BLUE), caption, reference, true)


def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[float, ...]]]:
    """Every text that is drawn from now on, with its box and the size of the image that it is drawn into."""
    texts: list[tuple[str, tuple[float, ...]]] = []
    text = ImageDraw.ImageDraw.text

    def note(pen: Any, place: tuple[float, float], words: str, **how: Any) -> None:
        texts.append((words, (*pen.textbbox(place, words, font=how["font"]), *pen.im.size)))
        text(pen, place, words, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    return texts


def whole(texts: list[tuple[str, tuple[float, ...]]]) -> str:
    """All that was written; fails where a part of it is outside its image."""
    for words, (left, top, right, bottom, width, height) in texts:
        assert left >= 0, words
        assert top >= 0, words
        assert right <= width, words
        assert bottom <= height, words
    return " ".join(words for words, _ in texts)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
@pytest.mark.parametrize("true", [True, False, None])
def test_no_word_is_cut(monkeypatch: pytest.MonkeyPatch, columns: int, true: bool | None) -> None:
    texts = written(monkeypatch)
    hero([shown(LONG, true, f"the {LONG}"), shown("short", true), shown("", true)], columns)
    said = whole(texts)
    assert f"the {LONG}" in said
    assert said.count(LONG) == 2
    grid([Image.new("RGB", (8, 8))] * 2, [LONG * 3, ""], columns)
    whole(texts)


def test_texts_of_neighbours_do_not_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = written(monkeypatch)
    hero([shown(LONG, k % 2 == 0, "w" * 90) for k in range(8)], 4)
    boxes = [box[:4] for words, box in texts if words and not words.startswith(("all that", "something", "grey"))]
    for k, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[k + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] + 6 or other[3] <= top + 6
            assert apart, (boxes[k], other)  # lines may share the room of descenders


def test_a_reference_is_quieter_than_a_caption_and_legible() -> None:
    def contrast(colour: tuple[int, int, int]) -> float:
        """As WCAG 2 defines it, against the paper."""

        def luminance(rgb: tuple[int, int, int]) -> float:
            shares = [c / 255 for c in rgb]
            linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        return (luminance(PAPER) + 0.05) / (luminance(colour) + 0.05)

    assert contrast(captioned.INK) > contrast(captioned.SOFT) > 4.5
    assert min(contrast(captioned._GOOD), contrast(captioned._BAD)) > 4.5


def test_marks_say_what_is_true_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bool] = []
    monkeypatch.setattr(captioned, "mark", lambda true, size: (drawn.append(true), mark(true, size))[1])
    texts = written(monkeypatch)
    hero([shown("a", True), shown("b", False), shown("c", True), shown("d")], 2)
    assert sorted(drawn[:2]) == [False, True]  # the note
    assert drawn[2:] == [True, False, True]
    said = whole(texts)
    assert "true of the image: 2 of 3" in said
    assert "something is not: 1 of 3" in said
    texts.clear()
    hero([shown("a"), shown("b")])
    assert "true of the image" not in whole(texts)


def test_ticks_and_crosses_differ_without_colour_and_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", None)
    grey = [np.asarray(mark(true, 26).convert("L")).astype(int) for true in (True, False)]
    light = [values > 180 for values in grey]
    assert all(20 < part.sum() < 200 for part in light)
    assert (light[0] ^ light[1]).sum() > 30
    assert np.asarray(mark(True, 26))[0, 0, 3] == 0


def test_the_sheet_is_light_with_transparent_corners_and_the_same_each_time() -> None:
    one, two = (hero([shown(LONG, True), shown("b", False)], 2) for _ in range(2))
    assert one.mode == "RGBA"
    assert one.tobytes() == two.tobytes()
    assert one.getpixel((0, 0))[3] == 0  # type: ignore[index]
    assert one.getpixel((one.width // 2, 4)) == (*PAPER, 255)
    assert one.getpixel((150, 150)) == (*BLUE, 255)
    assert hero([shown("a")] * 12, 4).width <= 1300


@pytest.mark.parametrize(("count", "columns"), [(0, 3), (3, 0), (3, 5)])
def test_no_image_and_too_many_columns_are_refused(count: int, columns: int) -> None:
    with pytest.raises(ValueError, match=f"{count} images in {columns} columns"):
        hero([shown("a")] * count, columns)


@pytest.mark.parametrize("width", [100, 300, 1300])
def test_a_scale_has_its_ends_beneath_and_the_caption_is_whole(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    texts = written(monkeypatch)
    bar = Image.new("RGB", (TILE, 20), BLUE)
    made = with_scale(Image.new("RGB", (width, 50), "white"), LONG, bar, ("0 %", "41 %"), "of the attention")
    said = whole(texts)
    assert LONG.replace(" ", "") in said.replace(" ", "")  # in the narrowest sheet words are broken too
    assert "of the attention".replace(" ", "") in said.replace(" ", "")
    [body] = np.nonzero((np.asarray(made)[:, 0] == 255).all(axis=1))
    above = texts[: [words for words, _ in texts].index("0 %")]
    assert above
    assert max(box[3] for _, box in above) <= body.min()
    ends = {words: box for words, box in texts if words in ("0 %", "41 %")}
    column = np.asarray(made)[:, 20]
    [rows] = np.nonzero((column == BLUE).all(axis=1))
    assert len(rows) == 20
    assert all(rows.max() < box[1] for box in ends.values())
    [across] = np.nonzero((np.asarray(made)[rows[0]] == BLUE).all(axis=1))
    assert (across.min(), abs(ends["0 %"][0] - across.min()) < 4) == (20, True)
    assert abs(ends["41 %"][2] - across.max()) < 4


def test_the_gallery_is_drawn_from_what_evaluate_left(copy: Project) -> None:
    done = copy.run("captioning", "gallery", "--out", "first.png", "--images", "3", "--columns", "2")
    assert done.stdout == "first.png: 3 images\n"
    copy.run("captioning", "gallery", "--out", "second.png", "--images", "3", "--columns", "2")
    assert (copy.folder / "first.png").read_bytes() == (copy.folder / "second.png").read_bytes()
    with Image.open(copy.folder / "first.png") as drawn:
        assert drawn.size[0] == 20 + 2 * 320
        plain = drawn.size[1]
    path = copy.folder / "data/evaluate/per_image.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    path.unlink()
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "true"] if "true" not in rows[0] else list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"true": str(k % 2)} for k, row in enumerate(rows))
    refused = copy.run("captioning", "gallery", "--out", "marked.png", check=False)
    assert "data/evaluate/per_image.csv is not what dvc.lock records" in refused.stderr
    copy.run("dvc", "commit", "--quiet", "--force", "evaluate")
    copy.run("captioning", "gallery", "--out", "marked.png", "--images", "3", "--columns", "2")
    with Image.open(copy.folder / "marked.png") as drawn:
        colours = {colour[:3] for _, colour in drawn.getcolors(1 << 24) or []}  # type: ignore[index]
        assert {captioned._GOOD, captioned._BAD} & colours
        assert drawn.size[1] >= plain
    path.unlink()
    done = copy.run("captioning", "gallery", "--out", "cached.png")  # DVC's cache has the table
    assert done.stdout == "cached.png: 6 images\n"
