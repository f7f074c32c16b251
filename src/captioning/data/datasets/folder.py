"""The user's own images: a folder, or an archive in it, and a table of captions.

The folder has `captions.csv` (or .tsv, .jsonl, .parquet, .txt), and images at any depth, or one archive of them:
`images.zip`, `images.tar`, `images.tar.gz`, `images.tgz`. Only the images that the table names are packed.
"""

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from captioning.data.datasets import tables
from captioning.data.datasets.base import COLUMNS, Options, Prepared, name_some, settle, sort_table
from captioning.data.datasets.tables import Row
from captioning.data.network.downloads import Fetched
from captioning.data.splits.captions import SPLITS
from captioning.system import packing
from captioning.system.errors import UserError, reworded, shown
from captioning.system.files import digest
from captioning.system.image_names import SUFFIXES, is_image, is_litter, last, leads_outside
from captioning.system.locks import alone

name = "folder"
_TABLES = tuple(f"captions{suffix}" for suffix in tables.FORMATS)
_ARCHIVES = ("images.zip", "images.tar", "images.tar.gz", "images.tgz")
_PACKED = "images.zip"
_TRAIN, _VAL = 0.8, 0.1  # shares of the images where the table has no split; the rest is for the test


def prepare(folder: Path, options: Options, cache: Path) -> Prepared:
    """Pack the images of `options.folder` into `folder` and return the table of captions, as `Dataset` says."""
    captions, images = find(options.folder)
    packed = cache / _PACKED
    with alone(cache / f".{name}.lock"):
        table, members, notes = read(tables.read(captions), captions, images)
        packing.pack(images, packed, members)
        whole = Prepared(table, [_record(captions), _record(packed)], notes)
        with reworded(lambda text: text.replace(f"{_PACKED}/", f"{images}/")):
            return settle(whole, cache, folder, [_PACKED], skip_corrupt=options.skip_corrupt)


def find(folder: Path) -> tuple[Path, Path]:
    """The table, and the archive or else the folder that the images are in. Raises UserError without one table."""
    if not folder.is_dir():
        raise UserError(f"download.folder = {folder}: no such folder; {_REMEDY}")
    tables, archives = _called(folder, _TABLES), _called(folder, _ARCHIVES)
    if not tables:
        raise UserError(
            f"download.folder = {folder.resolve()}: no table of captions there; "
            f"write {', or '.join(_TABLES)}, or name the folder that has it; {_REMEDY}"
        )
    for several in (tables, archives):
        if len(several) > 1:
            raise UserError(f"{folder}: {' and '.join(path.name for path in several)} are both there; keep one")
    for path in (*tables, *archives):
        packing.check_link(folder, path)
    return tables[0], archives[0] if archives else folder


def _called(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of these names, in small or capital letters, in the order of the names."""
    there = [path for path in sorted(folder.iterdir()) if path.name.lower() in names and path.is_file()]
    return sorted(there, key=lambda path: names.index(path.name.lower()))


def check_names(folder: Path) -> None:
    """Raise UserError for a name in the folder that is not UTF-8: DVC cannot record it, and stops without a reason."""
    for path in sorted(folder.rglob("*")):
        if not path.name.isascii() and path.name != path.name.encode(errors="ignore").decode():
            raise UserError(f"{shown(path)}: its name is not UTF-8, which DVC cannot record; rename it")


_REMEDY = "see docs/own-images.md (in a queued experiment, give the folder's absolute path)"


def _record(path: Path) -> Fetched:
    sha256 = digest(path)
    return Fetched(path.name, "source", path.stat().st_size, f"sha256:{sha256}", sha256, published=False)


def read(rows: Sequence[Row], captions: Path, images: Path) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The table of captions, the members of `images` that it names, and notes on images and split.

    captions, images: where the rows and the images are from.
    Raises UserError that names the line of a row that does not fit the others or the images.
    """
    rows = [_complete(row, captions) for row in rows]
    for key, other in (("image_id", "file"), ("file", "image_id"), ("file", "split")):
        _require_one(rows, key, other, captions)
    members = packing.members(images)
    found = _find(rows, members, captions, images)
    notes = _uncaptioned(set(members) - set(found.values()))
    splits = {row.cells["image_id"]: row.cells.get("split", "") for row in rows}
    if "split" not in rows[0].cells:
        splits = split_by_hash(splits, captions)
        counts = ", ".join(f"{list(splits.values()).count(split)} {split}" for split in SPLITS)
        notes.append(f"the table has no column split: its images are divided by a hash of image_id ({counts})")
    table = [
        (image, f"{_PACKED}/{found[row.cells['file']]}", row.cells["caption"], splits[image])
        for row in rows
        for image in [row.cells["image_id"]]
    ]
    return sort_table(pd.DataFrame(table, columns=list(COLUMNS))), sorted(set(found.values())), notes


def _complete(row: Row, captions: Path) -> Row:
    """The row with its file spelt in one way, and with an image_id: by default, the file without its suffix."""
    location, file = f"{captions}, {row.place}", row.cells["file"]
    if leads_outside(file) or "\\" in file:
        raise UserError(f"{location}: file '{shown(file)}' leads outside the folder; write a path inside it, with /")
    if is_litter(file):
        raise UserError(f"{location}: file '{shown(file)}' is hidden, or a system's own, and not read; rename it")
    if not is_image(file):
        suffixes = " ".join(sorted(SUFFIXES))
        raise UserError(f"{location}: file '{shown(file)}' is no image; its name must end in {suffixes}")
    split = row.cells.get("split", "train")
    if split not in SPLITS:
        raise UserError(f"{location}: split {split!r} is none of {', '.join(SPLITS)}; write one of them")
    path = PurePosixPath(unicodedata.normalize("NFC", file))
    return Row(row.place, {"image_id": str(path.with_suffix("")), **row.cells, "file": str(path)})


def _require_one(rows: Iterable[Row], key: str, other: str, captions: Path) -> None:
    """Every `key` must have the same `other` in all rows."""
    first: dict[str, Row] = {}
    for row in rows:
        earlier = first.setdefault(row.cells[key], row)
        was, now = earlier.cells.get(other), row.cells.get(other)
        if was != now:
            raise UserError(
                f"{captions}, {row.place}: {key} {row.cells[key]!r} has {other} {now!r}, in {earlier.place} {was!r}; "
                "give each image one image_id (without that column: its file without the suffix) and one split"
            )


def _find(rows: Sequence[Row], members: Sequence[str], captions: Path, images: Path) -> dict[str, str]:
    """The `file` of each row → the member that it names, in whatever spelling of its accents.

    Where no row names a folder, an image may be in any, if there is one of that name. Raises UserError for the others.
    """
    spelled = {_spell(member): member for member in members}
    places: dict[str, list[str]] = defaultdict(list)
    for member in members:
        places[last(_spell(member))].append(member)
    bare = not any("/" in row.cells["file"] for row in rows)
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row.cells["file"], row)
    found: dict[str, str] = {}
    for file in first:
        only = places[file][0] if bare and len(places[file]) == 1 else None
        if there := spelled.get(file) or _linked(images, file) or only:
            found[file] = there
    _require_none({file: row for file, row in first.items() if file not in found}, members, captions, images)
    return found


def _spell(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _linked(images: Path, file: str) -> str | None:
    """The file, if it is in the folder behind a link to another folder."""
    there = images.is_dir() and os.path.isfile(images / file)  # noqa: PTH113 - False for a name that is too long
    return file if there else None


def _require_none(missing: Mapping[str, Row], members: Sequence[str], captions: Path, images: Path) -> None:
    if missing:
        there = f"there is {shown(min(members))}" if members else "there are no images"
        names = [f"{shown(file)} ({row.place})" for file, row in missing.items()]
        raise UserError(
            f"{captions}: {len(missing)} files are not in {images}: {name_some(names)}; "
            f"{there}; correct the names or add the images"
        )


def _uncaptioned(members: Iterable[str]) -> list[str]:
    silent = sorted(members)
    return [f"{len(silent)} images have no caption and are left out: {name_some(silent)}"] if silent else []


def split_by_hash(images: Iterable[str], captions: Path) -> dict[str, str]:
    """image_id → split, by the first 64 bits of its SHA-256, read as a number in [0, 1): train is below 0.8, val below
    0.9, test the rest.

    So an image stays where it is when others are added. Where a split would be empty, it gets the image with the
    nearest number. Raises UserError for fewer images than splits.
    """
    at = {image: int.from_bytes(hashlib.sha256(image.encode()).digest()[:8]) / 2**64 for image in images}
    if len(at) < len(SPLITS):
        raise UserError(f"{captions}: {len(at)} images; at least {len(SPLITS)} are needed, one for each split")
    order = sorted(at, key=lambda image: (at[image], image))
    test = sum(at[image] < _TRAIN + _VAL for image in order)
    test = min(max(test, 2), len(order) - 1)
    val = min(max(sum(at[image] < _TRAIN for image in order), 1), test - 1)
    return {image: SPLITS[(index >= val) + (index >= test)] for index, image in enumerate(order)}
