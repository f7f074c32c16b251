"""The data-set seam: a table of captions, and the archives of images that it refers to."""

import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from tqdm import tqdm

from captioning.data.network.downloads import Fetched
from captioning.data.splits.captions import SPLITS
from captioning.system.archives import ImageArchives
from captioning.system.errors import UserError, shown
from captioning.system.scripts import control
from captioning.vision.images import ImageError, decode

COLUMNS = ("image_id", "file", "caption", "split")
_THREADS = 2
_AT_ONCE = 512  # images handed to the threads together: memory does not grow with the data set
_NAMED, _EXPLAINED = 5, 2  # of many faults, so many are named, and so many with their reason


class Drawing(Protocol):
    """What a data set that is drawn needs: images a split, side in pixels, seed."""

    @property
    def train(self) -> int: ...
    @property
    def val(self) -> int: ...
    @property
    def test(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class Options:
    """What the user decides: a folder to look in before the network, what to do about corrupt images, drawing,
    which of the published splits (official, karpathy), and the folder of the user's own images."""

    source: Path | None
    skip_corrupt: bool
    scenes: Drawing
    split: str = "official"
    folder: Path = Path("data/check")


@dataclass(frozen=True)
class Prepared:
    """A data set in its folder.

    table: one row a caption: image_id, file (`ARCHIVE.zip/member`), caption, split (train, val, test); in this order
    of splits, then by image_id, then as in the source. files: what was fetched. notes: what a person should know.
    """

    table: pd.DataFrame
    files: list[Fetched]
    notes: list[str]

    def record(self) -> dict[str, Any]:
        """Where the files came from, and the notes, for JSON."""
        return {"files": [asdict(file) for file in self.files], "notes": self.notes}


class Dataset(Protocol):
    """A data set. A module with these two names will do."""

    @property
    def name(self) -> str: ...

    def prepare(self, folder: Path, options: Options, cache: Path) -> Prepared:
        """Bring the archives into `folder` and return the table. Unfinished work is kept in `cache`.

        Raises UserError when something is missing, damaged or malformed; `folder` is then as it was.
        """
        ...


def refuse_controls(location: str, column: str, text: str) -> None:
    """Raise UserError when a text has a control character in it: it is damaged, or in another encoding."""
    strange = None if text.isprintable() else next(filter(control, text), None)
    if strange:
        raise UserError(f"{location}: {column} has the control character {strange!r} in it; remove it")


def one_line(location: str, caption: str) -> str:
    """A caption with single spaces for its white space. Raises UserError when it has control characters."""
    text = " ".join(caption.split())
    refuse_controls(location, "caption", text)
    return text


def check_table(table: pd.DataFrame) -> None:
    """Raise UserError, naming the first image at fault, unless the table is as `Prepared` says."""
    if tuple(table.columns) != COLUMNS:
        raise UserError(f"the caption table has the columns {list(table.columns)}; it needs {list(COLUMNS)}")
    _refuse(table, ~table["split"].isin(SPLITS), f"is in a split that is none of {', '.join(SPLITS)}")
    _refuse(table, table["caption"].str.strip() == "", "has an empty caption")
    for column in ("split", "file"):
        distinct = table.groupby("image_id")[column].transform("nunique")
        _refuse(table, distinct > 1, f"has more than one {column}")
    missing = [split for split in SPLITS if not (table["split"] == split).any()]
    if missing:
        raise UserError(f"the caption table has no caption in the split {missing[0]!r}; each split needs one")
    if not table[["image_id", "split"]].equals(sort_table(table)[["image_id", "split"]]):
        raise UserError("the caption table is not in order of split (train, val, test) and image_id; sort it")


def _refuse(table: pd.DataFrame, faulty: "pd.Series[bool]", reason: str) -> None:
    if faulty.any():
        row = table[faulty].iloc[0]
        raise UserError(
            f"image {row['image_id']} ({row['file']}) {reason}; correct the data set's captions or its split"
        )


def sort_table(table: pd.DataFrame) -> pd.DataFrame:
    """In order of splits (train, val, test), then by image_id; the captions of an image stay in their order."""
    order = {split: index for index, split in enumerate(SPLITS)}
    ordered = table.assign(order=table["split"].map(order)).sort_values(["order", "image_id"], kind="stable")
    return ordered.drop(columns="order").reset_index(drop=True)


def drop_corrupt(table: pd.DataFrame, root: Path, *, skip: bool) -> tuple[pd.DataFrame, list[str]]:
    """Decode every image once; return the table without those that cannot be, and their files, each with the reason.

    A JPEG that is cut short is always found; of damage inside one, only what the decoder stumbles over, and all
    that happened after the archive was made (its CRC). Raises UserError with the first few and the count, unless
    `skip`; also when an archive is missing or has no such member.
    """
    names = table["file"].drop_duplicates().tolist()
    with ImageArchives(root) as images, ThreadPoolExecutor(_THREADS) as pool:
        checks = (
            fault
            for first in range(0, len(names), _AT_ONCE)
            for fault in pool.map(lambda name: _fault(images, name), names[first : first + _AT_ONCE])
        )
        faults = list(tqdm(checks, "decoding", len(names), unit="image", disable=None))
    corrupt = {name: fault for name, fault in zip(names, faults, strict=True) if fault}
    described = [f"{shown(name)} ({shown(fault)})" for name, fault in corrupt.items()]
    if corrupt and not skip:
        raise UserError(
            f"{len(corrupt)} of {len(names)} images cannot be decoded: {_some(described, _EXPLAINED)}; "
            "replace them, or leave them out with download.skip_corrupt=true"
        )
    return table[~table["file"].isin(corrupt)].reset_index(drop=True), described


def settle(whole: Prepared, workspace: Path, folder: Path, archives: Iterable[str], *, skip_corrupt: bool) -> Prepared:
    """Decode every image once, check the table, and move the archives from the workspace to `folder`.

    Until then nothing has left the workspace: when something is wrong, what was brought is still there on the next run.
    Raises UserError as `drop_corrupt` and `check_table` do.
    """
    table, corrupt = drop_corrupt(whole.table, workspace, skip=skip_corrupt)
    note = f"{len(corrupt)} images that cannot be decoded are left out: {', '.join(corrupt)}"
    check_table(table)
    folder.mkdir(parents=True, exist_ok=True)
    for name in archives:
        shutil.move(workspace / name, folder / name)
    return Prepared(table, whole.files, [*whole.notes, *([note] if corrupt else [])])


def _fault(images: ImageArchives, name: str) -> str | None:
    """Why an image cannot be decoded; None if it can."""
    data = images.read(name)
    try:
        decode(data, name)
    except ImageError as fault:
        return fault.reason
    return None


def name_some(names: Sequence[str]) -> str:
    """The first few of many names, and how many more there are."""
    return _some([shown(name) for name in names], _NAMED)


def _some(names: Sequence[str], count: int) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
