"""The rectangles of what is drawn in a scene: compared with the pixels that change where an object is not drawn."""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import numpy as np
import pytest
from PIL import Image, ImageDraw

from captioning.data.datasets.scenes import composition, drawing
from captioning.data.datasets.scenes.composition import Scene, compose
from captioning.data.datasets.scenes.drawing import draw, objects
from captioning.data.datasets.scenes.pen import Drawn, Pen

SIZE = 96
SCENES = compose(60, seed=7)


@contextmanager
def without(number: int | None, size: int) -> Iterator[None]:
    """Objects cast no shadow; the one of this number is painted elsewhere."""
    elsewhere = Image.new("RGB", (3 * size, 3 * size))
    begun = 0

    def begin(self: Pen, name: str) -> Pen:  # noqa: ARG001
        nonlocal begun
        pen = self.at(0, 0)
        if begun == number:
            pen._solid, pen._glaze = ImageDraw.Draw(elsewhere), ImageDraw.Draw(elsewhere, "RGBA")
        begun += 1
        return pen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pen, "begin", begin)
        patch.setattr(Pen, "shadow", lambda *_: None)
        yield


def pixels(scene: Scene, number: int | None) -> np.ndarray:
    with without(number, SIZE):
        return np.asarray(draw(scene, SIZE), dtype=int)


def changed(scene: Scene, number: int) -> np.ndarray:
    """(SIZE, SIZE), bool: the pixels that the object changes."""
    return (pixels(scene, None) != pixels(scene, number)).any(2)


def window(one: Drawn) -> tuple[slice, slice]:
    """Rows and columns of the pixels that the rectangle touches."""
    return slice(int(one.top), int(np.ceil(one.bottom))), slice(int(one.left), int(np.ceil(one.right)))


@pytest.fixture(scope="module")
def seen() -> list[tuple[Drawn, np.ndarray]]:
    """Each object that shows, with the pixels that it changes."""
    pairs = [(one, changed(scene, number)) for scene in SCENES[:25] for number, one in enumerate(objects(scene, SIZE))]
    return [(one, where) for one, where in pairs if where.any()]


def test_an_objects_pixels_are_in_its_rectangle(seen: list[tuple[Drawn, np.ndarray]]) -> None:
    shares = [where[window(one)].sum() / where.sum() for one, where in seen]
    assert len(shares) > 50
    assert min(shares) >= 0.95


def test_the_rectangle_is_no_larger_than_what_shows_of_an_object(seen: list[tuple[Drawn, np.ndarray]]) -> None:
    """Of most objects all shows, and of some the others leave a part."""
    filled = []
    for one, where in seen:
        rows, columns = where.any(1).nonzero()[0], where.any(0).nonzero()[0]
        shown = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        filled.append(shown / ((one.bottom - one.top) * (one.right - one.left)))
    assert 0.95 < median(filled) < 1.15


def test_every_object_that_a_scene_names_is_listed_once() -> None:
    for scene in SCENES:
        props = [composition.PROPS[actor.action] for actor in scene.actors if actor.prop is not None]
        named = [actor.kind for actor in scene.actors] + props + ([scene.thing] if scene.thing else [])
        assert sorted(one.name for one in objects(scene, SIZE)) == sorted(named)


def test_there_are_23_kinds_of_objects() -> None:
    things = {thing for listed in composition.THINGS.values() for thing in listed}
    assert len({"boy", "girl", *composition.COATS, *things, *composition.PROPS.values()}) == 23
    assert len({one.name for scene in compose(400, 1) for one in objects(scene, SIZE)}) == 23


def test_rectangles_scale_with_the_image_and_stay_inside_it() -> None:
    for scene in SCENES:
        for small, large in zip(objects(scene, 50), objects(scene, 400), strict=True):
            assert 0 <= small.left < small.right <= 50
            assert 0 <= small.top < small.bottom <= 50
            corners = [[one.left, one.top, one.right, one.bottom] for one in (small, large)]
            np.testing.assert_allclose(np.array(corners[0]) * 8, corners[1], atol=8)


def test_what_is_wholly_outside_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def far(pen: Pen, _scene: Scene) -> None:
        pen.begin("near").disc(50, 50, 5, "#ffffff")
        pen.begin("far").disc(-50, 50, 5, "#ffffff")
        pen.begin("edge").disc(0, 50, 5, "#ffffff")
        pen.begin("shadow alone").shadow(50, 5)

    monkeypatch.setattr(drawing, "_objects", far)
    assert objects(SCENES[0], 100) == [Drawn("near", 45, 45, 55, 55), Drawn("edge", 0, 45, 5, 55)]


def test_recording_changes_no_pixel() -> None:
    drawn: list[Drawn] = []
    images = [Image.new("RGB", (90, 90)) for _ in range(2)]
    for image, recorded in zip(images, (None, drawn), strict=True):
        drawing._objects(Pen(image, 0.9, drawn=recorded), SCENES[3])
    assert drawn
    assert images[0].tobytes() == images[1].tobytes()
