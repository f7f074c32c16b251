"""Scenes: a data set that this project draws itself, in the spirit of Abstract Scenes (Zitnick and Parikh 2013).

Children, animals, weather, things and places, each image with five sentences written by a grammar. It needs no
network. No composition is in two splits; the words and the things are the same in all.
"""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NoReturn

import pandas as pd

from captioning.data.datasets.scenes import facts
from captioning.data.datasets.scenes.composition import Actor, Scene, compose
from captioning.data.datasets.scenes.drawing import draw
from captioning.data.datasets.scenes.grammar import sentences
from captioning.system.archives import write_zip
from captioning.system.errors import UserError

__all__ = ["Actor", "Scene", "compose", "draw", "name", "sentences", "table", "write"]

name = "scenes"
_ARCHIVE = "scenes.zip"
_PROCESSES = 8  # at most so many draw
_LENGTH = 4  # bytes that say how long an image is
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
    """Draw `folder/scenes.zip`, images of `size` x `size` pixels as PNG, and return the caption table.

    `folder/facts.jsonl` says what is in each image.

    The same arguments give the same bytes, on any number of cores. About 6 ms an image of 192 pixels on one.
    """
    scenes = compose(train + val + test, seed)
    write_zip(folder / _ARCHIVE, _images(scenes, size))
    facts.write_facts(folder / facts.FILE, {_image_id(number): scene for number, scene in enumerate(scenes, start=1)})
    return table(scenes, train=train, val=val, test=test)


def _image_id(number: int) -> str:
    return f"{number:06d}"


def _member(number: int) -> str:
    return f"scenes/{_image_id(number)}.png"


def _images(scenes: Sequence[Scene], size: int) -> Iterator[tuple[str, bytes]]:
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


@contextmanager
def _drawing(scenes: Sequence[Scene], size: int) -> Iterator[BinaryIO]:
    """A process that draws these scenes, while the context lasts; the pipe that its images come through."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _draw_into(writing, scenes, size)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            yield pipe
    finally:
        os.waitpid(child, 0)


def _draw_into(writing: int, scenes: Sequence[Scene], size: int) -> NoReturn:
    """Write each image behind its length in four bytes, and end the process."""
    status = 1
    try:
        with os.fdopen(writing, "wb") as pipe:
            for scene in scenes:
                png = _png(scene, size)
                pipe.write(len(png).to_bytes(_LENGTH, "big") + png)
        status = 0
    except BrokenPipeError:  # the parent reads no more
        pass
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _received(pipe: BinaryIO) -> bytes:
    """The next image. Raises UserError when the process that draws it has ended."""
    length = int.from_bytes(pipe.read(_LENGTH), "big")
    png = pipe.read(length)
    if not png or len(png) < length:
        raise UserError(
            "a process that draws scenes ended early, by the error above or for want of memory; run the stage again"
        )
    return png


def _png(scene: Scene, size: int) -> bytes:
    stream = BytesIO()
    draw(scene, size).save(stream, "PNG", compress_level=_COMPRESSION)
    return stream.getvalue()
