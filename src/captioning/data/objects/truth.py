"""What a data set itself says is in its images, and where: drawn scenes, COCO, Abstract Scenes."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from captioning.data.datasets.scenes import facts
from captioning.data.datasets.scenes.drawing import objects
from captioning.data.objects.clip_art import read_clip_art
from captioning.data.objects.instances import Truth, read_instances
from captioning.data.objects.labels import Found, Sizes


class Source(NamedTuple):
    """Where the truth is: a name for people, the file, and how it is read."""

    name: str
    file: Path
    read: Callable[[Sizes], dict[str, Truth]]


def of(dataset: str, folder: Path) -> Source | None:
    """The truth of a data set that is in `folder`; None where the data set says nothing, or not with this split."""
    sources = {
        "scenes": Source("facts of the drawing", folder / facts.FILE, partial(_scenes, folder / facts.FILE)),
        "abstract_scenes": _archive("clip art", folder / "AbstractScenes_v1.1.zip", read_clip_art),
        **{
            f"coco{year}": _archive("COCO's instances", folder / f"annotations_trainval{year}.zip", read_instances)
            for year in (2014, 2017)
        },
    }
    source = sources.get(dataset)
    return source if source and source.file.is_file() else None


def _archive(name: str, path: Path, read: Callable[[Path, Sizes], dict[str, Truth]]) -> Source:
    return Source(name, path, partial(read, path))


def _scenes(path: Path, sizes: Sizes) -> dict[str, Truth]:
    """Drawn again from what was composed, without pixels."""
    scenes = facts.read_facts(path)
    return {
        image: Truth(
            [
                Found(one.name, 1.0, (one.left, one.top, one.right, one.bottom))
                for one in objects(scenes[image], size[0])
            ],
            [],
        )
        for image, size in sizes.items()
    }
