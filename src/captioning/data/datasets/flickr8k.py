"""Flickr8k: 8,000 photographs with five captions each (Hodosh, Young and Hockenmaier 2013), read in place.

The archives are the re-published ones of github.com/jbrownlee/Datasets. For non-commercial research and education.
Karpathy's split is the published one. Kaggle's copy has the same images, without splits.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from captioning.data.datasets import karpathy
from captioning.data.datasets.base import Options, Prepared
from captioning.data.datasets.published import Photograph, Workspace, differences, gather_split, images, tabulate
from captioning.data.datasets.tokens import counts, lines, parse_captions, without_image
from captioning.data.network.downloads import Fetched
from captioning.system.archives import Archive
from captioning.system.documents import REMEDY, decode_text
from captioning.system.errors import UserError, reworded

name = "flickr8k"
_URL = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/"
_PHOTOGRAPHS, _TEXT = "Flickr8k_Dataset.zip", "Flickr8k_text.zip"
PUBLISHED = {  # the small one first: what is wrong with it is known before the gigabyte comes
    _URL + _TEXT: "md5:bf6c1abcb8e4a833b7f922104de18627",
    _URL + _PHOTOGRAPHS: "md5:f18a1e2920de5bd84dae7cf08ec78978",
}
_CAPTIONS = "Flickr8k.token.txt"
_SPLITS = {"train": "Flickr_8k.trainImages.txt", "val": "Flickr_8k.devImages.txt", "test": "Flickr_8k.testImages.txt"}
_KAGGLE, _KAGGLE_IMAGES = "captions.txt", "Images"
_WITHOUT_SPLITS = (
    f"it says nothing of splits, and {_TEXT}, which does, cannot be downloaded; put that beside it, or read these "
    "files with dataset=folder and download.folder"
)
_DOCUMENT = "dataset_flickr8k.json"
_COUNTS = {"train": (6000, 30_000), "val": (1000, 5000), "test": (1000, 5000)}  # images, captions
_IN_FILE = {_CAPTIONS: (8093, 40_460)}  # names, captions; whatever their split


def prepare(
    folder: Path,
    options: Options,
    cache: Path,
    published: Mapping[str, str] = PUBLISHED,  # URL → digest
) -> Prepared:
    """Bring the archives into `folder` and return the caption table, as `Dataset` says."""
    splits = {"official": partial(_official, published=published), "karpathy": partial(_karpathy, published=published)}
    return gather_split(Workspace(name, options.source, cache), folder, options, splits)


def _official(space: Workspace, published: Mapping[str, str]) -> Prepared:
    files = [_bring(space, url, digest) for url, digest in published.items()]
    table, notes = read(space.folder / _TEXT, space.folder / _PHOTOGRAPHS)
    return Prepared(table, files, notes)


def _karpathy(space: Workspace, published: Mapping[str, str]) -> Prepared:
    document = karpathy.bring(space, _DOCUMENT)
    entries, location = karpathy.read(space.folder / document.name, _DOCUMENT)
    archive = next(_bring(space, url, digest) for url, digest in published.items() if url.endswith(_PHOTOGRAPHS))
    photographs = [
        Photograph(entry.filename.removesuffix(".jpg"), _PHOTOGRAPHS, entry.filename, entry.used_as, entry.captions)
        for entry in entries
    ]
    table, notes = tabulate(photographs, space.folder, location)
    return Prepared(table, [document, archive], [*differences(karpathy.counts(entries), _COUNTS), *notes])


def _bring(space: Workspace, url: str, digest: str) -> Fetched:
    """A published archive. Of the data set as Kaggle has it, the images are taken; it has no splits."""
    kaggle = space.find(_KAGGLE)
    if url.endswith(_PHOTOGRAPHS):
        return space.images(url, digest, *[_KAGGLE_IMAGES] * bool(kaggle))
    with reworded(lambda text: f"{kaggle}: {_WITHOUT_SPLITS}" if kaggle and text.startswith(url) else text):
        return space.fetch(url, digest)


def read(text: Path, photographs: Path) -> tuple[pd.DataFrame, list[str]]:
    """The caption table of the two archives, and notes on what is left out or missing.

    Raises UserError that names file and line of what is malformed, or the file that is missing.
    """
    location = f"{text}/{_CAPTIONS}"
    with Archive(text) as archive:
        captions = parse_captions(decode_text(archive.read(_CAPTIONS), location), location)
        splits = _read_splits(archive)
    table, notes = tabulate(
        [
            Photograph(image.removesuffix(".jpg"), photographs.name, image, split, captions.get(image, []))
            for image, split in splits.items()
        ],
        photographs.parent,
        location,
    )
    own_counts = {_CAPTIONS: (len(captions), sum(map(len, captions.values()))), **counts(captions, splits)}
    return table, [
        *differences(own_counts, _COUNTS | _IN_FILE),
        *notes,
        *without_image(captions, images(photographs)),
    ]


def _read_splits(archive: Archive) -> dict[str, str]:
    """Image → split, from the three official lists of file names."""
    splits: dict[str, str] = {}
    for split, member in _SPLITS.items():
        location = f"{archive.path}/{member}"
        for number, line in enumerate(lines(decode_text(archive.read(member), location)), start=1):
            image = line.strip()
            if image in splits:
                raise UserError(f"{location}, line {number}: {image} is listed twice; {REMEDY}")
            splits[image] = split
    return splits
