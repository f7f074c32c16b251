"""Flickr8k: 8,000 photographs with five captions each (Hodosh, Young and Hockenmaier 2013), read in place.

The archives are the re-published ones of github.com/jbrownlee/Datasets. For non-commercial research and education.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from captioning.archives import Archive
from captioning.datasets.base import (
    COLUMNS,
    Options,
    Prepared,
    check_table,
    drop_corrupt,
    name_some,
    sort_table,
)
from captioning.downloads import alone, fetch
from captioning.errors import UserError

name = "flickr8k"
_URL = "https://github.com/jbrownlee/Datasets/releases/download/Flickr8k/"
_PHOTOGRAPHS, _TEXT = "Flickr8k_Dataset.zip", "Flickr8k_text.zip"
PUBLISHED = {  # the small one first: what is wrong with it is known before the gigabyte comes
    _URL + _TEXT: "md5:bf6c1abcb8e4a833b7f922104de18627",
    _URL + _PHOTOGRAPHS: "md5:f18a1e2920de5bd84dae7cf08ec78978",
}
_FOLDER = "Flicker8k_Dataset/"  # spelt so
_CAPTIONS = "Flickr8k.token.txt"
_SPLITS = {"train": "Flickr_8k.trainImages.txt", "val": "Flickr_8k.devImages.txt", "test": "Flickr_8k.testImages.txt"}


def prepare(
    folder: Path,
    options: Options,
    cache: Path,
    published: Mapping[str, str] = PUBLISHED,  # URL → digest
) -> Prepared:
    """Bring both archives into `folder` and return the caption table, as `Dataset` says.

    Everything is done in `cache`, and `folder` gets the archives at the end: when something is wrong, a gigabyte that
    was downloaded is still there on the next run.
    """
    with alone(cache / f".{name}.lock"):
        fetched = [
            fetch(
                url, cache / url.rpartition("/")[2], digest=digest, source=options.source, cache=cache, subfolder=name
            )
            for url, digest in published.items()
        ]
        table, notes = read(cache / _TEXT, cache / _PHOTOGRAPHS)
        table, corrupt = drop_corrupt(table, cache, skip=options.skip_corrupt)
        if corrupt:
            notes.append(f"{len(corrupt)} pictures that cannot be decoded are left out: {', '.join(corrupt)}")
        check_table(table)
        folder.mkdir(parents=True, exist_ok=True)
        for file in fetched:
            shutil.move(cache / file.name, folder / file.name)
    return Prepared(table, fetched, notes)


def read(text: Path, photographs: Path) -> tuple[pd.DataFrame, list[str]]:
    """The caption table of the two archives, and notes on what is left out.

    Raises UserError that names file and line of what is malformed, or the file that is missing.
    """
    with Archive(text) as archive:
        captions = parse_captions(_text(archive, _CAPTIONS), f"{text}/{_CAPTIONS}")
        splits = _read_splits(archive)
    with Archive(photographs) as archive:
        present = {member.removeprefix(_FOLDER) for member in archive.names() if member.startswith(_FOLDER)}
    captioned = {image for image, _ in captions}
    _require(splits, present, f"{photographs} has no picture of", _FOLDER)
    _require(splits, captioned, f"{text}/{_CAPTIONS} has no caption of", "")
    rows = [
        (image.removesuffix(".jpg"), f"{photographs.name}/{_FOLDER}{image}", caption, splits[image])
        for image, caption in captions
        if image in splits
    ]
    return sort_table(pd.DataFrame(rows, columns=list(COLUMNS))), _left_out(captions, present, splits)


def parse_captions(text: str, place: str) -> list[tuple[str, str]]:
    """Lines `NAME.jpg#0<TAB>caption` → (NAME.jpg, caption), white space around the caption removed.

    Raises UserError with `place` and the line number for any other line.
    """
    captions = []
    for number, line in enumerate(_lines(text), start=1):
        key, tab, caption = line.partition("\t")
        image, _, index = key.rpartition("#")
        if not (tab and image and index.isdecimal() and caption.strip()):
            raise UserError(f"{place}, line {number}: {line!r} is not NAME.jpg#0<TAB>caption; {_REMEDY}")
        captions.append((image, caption.strip()))
    return captions


def _read_splits(archive: Archive) -> dict[str, str]:
    """Image → split, from the three official lists of file names."""
    splits: dict[str, str] = {}
    for split, member in _SPLITS.items():
        for number, line in enumerate(_lines(_text(archive, member)), start=1):
            image = line.strip()
            if image in splits:
                raise UserError(f"{archive.path}/{member}, line {number}: {image} is listed twice; {_REMEDY}")
            splits[image] = split
    return splits


_REMEDY = "mend it, or take the archive that is published"


def _text(archive: Archive, member: str) -> str:
    data = archive.read(member)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        raise UserError(f"{archive.path}/{member}, line {line}: not UTF-8; {_REMEDY}") from fault


def _lines(text: str) -> list[str]:
    """Lines that end in `\\n` or `\\r\\n`, and in nothing else that Unicode knows."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _require(splits: Mapping[str, str], there: set[str], said: str, prefix: str) -> None:
    """Every image of a split must be there."""
    missing = [prefix + image for image in splits if image not in there]
    if missing:
        raise UserError(
            f"{said} {len(missing)} of the {len(splits)} images in the splits: {name_some(missing)}; {_REMEDY}"
        )


def _left_out(captions: list[tuple[str, str]], present: set[str], splits: Mapping[str, str]) -> list[str]:
    unsplit = {image for image, _ in captions if image in present and image not in splits}
    unknown = [image for image, _ in captions if image not in present]
    notes = []
    if unsplit:
        notes.append(f"{len(unsplit)} images are in no split and are left out")
    if unknown:
        names = ", ".join(sorted(set(unknown)))
        notes.append(f"{len(unknown)} captions of images that do not exist are left out: {names}")
    return notes
