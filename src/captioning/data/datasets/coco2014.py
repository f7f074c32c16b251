"""COCO 2014: 123,287 photographs with five captions each (Lin et al. 2014; Chen et al. 2015).

Karpathy's split, which papers report, or the official one. Annotations CC BY 4.0; photographs as Flickr has them.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from captioning.data.datasets import annotations, karpathy
from captioning.data.datasets.base import Options, Prepared
from captioning.data.datasets.published import Photograph, Workspace, differences, gather_split, tabulate
from captioning.system.documents import REMEDY
from captioning.system.errors import UserError

name = "coco2014"
_URL = "http://images.cocodataset.org/"
_ANNOTATIONS = {_URL + "annotations/annotations_trainval2014.zip": "md5:0a379cfc70b0e71301e0f377548639bd"}
_IMAGES = {
    _URL + "zips/val2014.zip": "md5:a3d79f5ed8d289b7a7554ce06a5782b3",
    _URL + "zips/train2014.zip": "md5:0da8c0bd3d6becc4dcb32757491aca88",
}
_DOCUMENT = "dataset_coco.json"
_FOLDERS = ("train2014", "val2014")
_OFFICIAL = {"train2014": (82_783, 414_113), "val2014": (40_504, 202_654)}  # images, captions
_KARPATHY = {
    "train": (82_783, 414_113),
    "restval": (30_504, 152_634),
    "val": (5000, 25_010),
    "test": (5000, 25_010),
}


def prepare(folder: Path, options: Options, cache: Path) -> Prepared:
    """Bring the archives into `folder` and return the caption table, as `Dataset` says."""
    official = partial(annotations.assemble, year=2014, published=_ANNOTATIONS | _IMAGES, expected=_OFFICIAL)
    splits: dict[str, Callable[[Workspace], Prepared]] = {"official": official, "karpathy": _karpathy}
    return gather_split(Workspace(name, options.source, cache), folder, options, splits)


def _karpathy(space: Workspace) -> Prepared:
    document = karpathy.bring(space, _DOCUMENT)
    entries, location = karpathy.read(space.folder / document.name, _DOCUMENT)
    photographs = [_photograph(entry, location) for entry in entries]
    files = [document, *(space.images(url, digest) for url, digest in _IMAGES.items())]
    table, notes = tabulate(photographs, space.folder, location)
    return Prepared(table, files, [*differences(karpathy.counts(entries), _KARPATHY), *notes])


def _photograph(entry: karpathy.Entry, location: str) -> Photograph:
    if entry.filepath not in _FOLDERS or entry.cocoid is None:
        raise UserError(
            f"{location}: image {entry.filename} has filepath {entry.filepath!r} and cocoid {entry.cocoid}; "
            f"it needs {' or '.join(_FOLDERS)}, and a number; {REMEDY}"
        )
    return Photograph(str(entry.cocoid), f"{entry.filepath}.zip", entry.filename, entry.used_as, entry.captions)
