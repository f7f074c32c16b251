"""Images with the boxes of objects: where they are drawn, in which colour, and what a caption names of them."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from captioning.evaluation import object_boxes
from captioning.evaluation.object_boxes import draw, tile, word_for
from tests.noise import noise

SKY = Image.new("RGB", (48, 32), (120, 160, 220))
DOG, TREE = ("dog", (20.0, 12.0, 40.0, 28.0)), ("tree", (2.0, 10.0, 12.0, 30.0))


@pytest.mark.parametrize(
    ("name", "words", "word"),
    [
        ("dog", ["a", "dog", "runs"], "dog"),
        ("bench", ["two", "benches"], "benches"),
        ("hot dog", ["a", "dog"], "dog"),
        ("dog", ["a", "dogged", "cat"], None),
        ("boy", [], None),
    ],
)
def test_an_object_is_named_by_its_name_or_the_plural(name: str, words: list[str], word: str | None) -> None:
    assert word_for(name, words) == word


def test_boxes_are_where_the_objects_are_and_green_where_the_caption_names_them() -> None:
    drawn = np.asarray(draw(SKY, [DOG, TREE], ["a", "dog"]))
    assert drawn.shape == (320, 480, 3)  # ten times as large
    for (_, (left, top, right, bottom)), colour in ((DOG, object_boxes._SAID), (TREE, object_boxes._UNSAID)):
        for row, column in ((bottom, left), (bottom, right), ((top + bottom) / 2, left), ((top + bottom) / 2, right)):
            assert tuple(drawn[round(10 * row), round(10 * column)]) == colour
        assert tuple(drawn[round(5 * (top + bottom)), round(5 * (left + right))]) == (120, 160, 220)
    assert (drawn == np.asarray(draw(SKY, [DOG, TREE], ["a", "dog"]))).all()


def test_labels_stay_within_the_image_and_nothing_else_is_drawn() -> None:
    large = Image.new("RGB", (640, 480), (9, 9, 9))
    assert (np.asarray(draw(large, [], ["a", "dog"])) == 9).all()
    corner = np.asarray(draw(large, [("umbrella", (600.0, 0.0, 640.0, 40.0))], ["umbrellas"]))
    label = (corner == object_boxes._SAID).all(axis=2)
    assert label[0, 639]
    assert label[:15, 540].any()  # it begins left of its box
    assert not label[:, :400].any()


@pytest.mark.parametrize("size", [(480, 240), (240, 480)])
def test_a_tile_is_the_middle_of_the_image_with_the_boxes_that_it_shows(size: tuple[int, int]) -> None:
    image = noise(size, 60)
    assert tile(image, [], []).tobytes() == ImageOps.fit(image, (240, 240), Image.Resampling.LANCZOS).tobytes()
    begin = [(side - 240) / 2 for side in size]  # of the middle
    shown = ("dog", (begin[0] + 40.0, begin[1] + 100.0, begin[0] + 90.0, begin[1] + 150.0))
    outside = ("tree", (0.0, 0.0, 100.0, 100.0))
    drawn = np.asarray(tile(image, [shown, outside], ["a", "dog"]))
    green, grey = ((drawn == colour).all(axis=2) for colour in (object_boxes._SAID, object_boxes._UNSAID))
    assert not grey.any()
    assert green[100:150, 40].all()
    assert green[149, 40:90].all()
    assert not green[101:].any(axis=1)[50:].any()
