"""Scenes: a data set that this project draws itself, in the spirit of Abstract Scenes (Zitnick and Parikh 2013).

Children, animals, weather, things and places, each picture with five sentences written by a grammar. It needs no
network. No composition is in two splits; the words and the things are the same in all.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from captioning.archives import write_zip
from captioning.datasets.scenes import facts
from captioning.datasets.scenes.composition import Actor, Scene, compose
from captioning.datasets.scenes.drawing import draw
from captioning.datasets.scenes.grammar import sentences

__all__ = ["Actor", "Scene", "compose", "draw", "name", "sentences", "table", "write"]

name = "scenes"
_ARCHIVE = "scenes.zip"
_PROCESSES = 8  # at most so many draw
_WORTH = 400  # images that are worth a process
_COMPRESSION = 2  # of PNG: a sixth larger than by default, in a third of the time


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

    The same arguments give the same bytes, on any number of cores. About 6 ms an image of 192 pixels on one.
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
    """Archive members in order. Other processes draw a share each and send it through a pipe.

    They end with this one: writing to a pipe that nobody reads fails.
    """
    processes = min(os.cpu_count() or 1, _PROCESSES, len(scenes) // _WORTH + 1) if hasattr(os, "fork") else 1
    with ExitStack() as stack:
        pipes = [stack.enter_context(_drawing(scenes[i::processes], size)) for i in range(1, processes)]
        for number, scene in enumerate(scenes, start=1):
            source = (number - 1) % processes
            png = _received(pipes[source - 1]) if source else _png(scene, size)
            yield _member(number), png


def _drawing(scenes: Sequence[Scene], size: int) -> BinaryIO:
    """Start a process that draws these scenes; the pipe with its images, each behind its length in four bytes."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return os.fdopen(reading, "rb")
    try:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            for scene in scenes:
                png = _png(scene, size)
                pipe.write(len(png).to_bytes(4, "big") + png)
    except BrokenPipeError:
        os._exit(1)
    finally:
        os._exit(0)


def _received(pipe: BinaryIO) -> bytes:
    return pipe.read(int.from_bytes(pipe.read(4), "big"))


def _png(scene: Scene, size: int) -> bytes:
    stream = BytesIO()
    draw(scene, size).save(stream, "PNG", compress_level=_COMPRESSION)
    return stream.getvalue()
