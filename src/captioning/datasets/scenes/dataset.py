"""Scenes: a data set that this project draws itself, in the spirit of Abstract Scenes (Zitnick and Parikh 2013).

Children, animals, weather, things and places, each picture with five sentences written by a grammar. It needs no
network. No composition is in two splits; the words and the things are the same in all.
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import pandas as pd

from captioning.archives import write_zip
from captioning.datasets.scenes import facts
from captioning.datasets.scenes.composition import Actor, Scene, compose
from captioning.datasets.scenes.drawing import draw
from captioning.datasets.scenes.grammar import sentences

__all__ = ["Actor", "Scene", "compose", "draw", "name", "sentences", "table", "write"]

name = "scenes"
_ARCHIVE = "scenes.zip"


def table(scenes: Sequence[Scene], *, train: int, val: int, test: int) -> pd.DataFrame:
    """The caption table of `train + val + test` scenes: the first `train` are for training, and so on.

    One row a caption, five a scene: image_id (`000001`, ...), file (archive, then member), caption, split.
    """
    splits = ["train"] * train + ["val"] * val + ["test"] * test
    rows = [
        (_image_id(number), f"{_ARCHIVE}/{_member(number)}", caption, split)
        for number, (scene, split) in enumerate(zip(scenes, splits, strict=True), start=1)
        for caption in sentences(scene)
    ]
    return pd.DataFrame(rows, columns=["image_id", "file", "caption", "split"])


def write(folder: Path, *, train: int, val: int, test: int, size: int, seed: int) -> pd.DataFrame:
    """Draw `folder/scenes.zip`, pictures of `size` x `size` pixels as PNG, and return the caption table.

    `folder/facts.jsonl` says what is in each picture.

    The same arguments give the same bytes. About 8 ms a picture of 192 pixels on one core.
    """
    scenes = compose(train + val + test, seed)
    write_zip(folder / _ARCHIVE, _pictures(scenes, size))
    facts.write_facts(folder / facts.FILE, {_image_id(number): scene for number, scene in enumerate(scenes, start=1)})
    return table(scenes, train=train, val=val, test=test)


def _image_id(number: int) -> str:
    return f"{number:06d}"


def _member(number: int) -> str:
    return f"scenes/{_image_id(number)}.png"


def _pictures(scenes: Sequence[Scene], size: int) -> Iterator[tuple[str, bytes]]:
    for number, scene in enumerate(scenes, start=1):
        stream = BytesIO()
        draw(scene, size).save(stream, "PNG")
        yield _member(number), stream.getvalue()
