"""What the published data sets of photographs share: bring the files, read them, check, put them in place."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from captioning.data.datasets.base import COLUMNS, Options, Prepared, name_some, one_line, settle, sort_table
from captioning.data.network import downloads
from captioning.data.network.downloads import Fetched
from captioning.system.archives import DOWNLOAD_AGAIN, PACK_AGAIN, Archive
from captioning.system.documents import REMEDY
from captioning.system.errors import UserError, reworded
from captioning.system.files import copy
from captioning.system.image_names import is_image, last, tidy
from captioning.system.locks import alone
from captioning.system.packing import pack


@dataclass(frozen=True)
class Workspace:
    """Where the files of one data set come together before they are moved to the stage's folder.

    name: of the data set, also the subfolder of `source` that is looked in. cache: for unfinished downloads.
    origins: file in the workspace → the user's own file or folder that it was made of.
    """

    name: str
    source: Path | None
    cache: Path
    origins: dict[Path, Path] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The files, once they are whole."""
        return self.cache / self.name

    def find(self, *names: str) -> Path | None:
        """The first of the names that the user's folder has."""
        return downloads.find(self.source, self.name, *names)

    def fetch(self, url: str, digest: str | None) -> Fetched:
        """From the user's folder, or from the network, as `downloads.fetch` says."""
        target = self.folder / url.rpartition("/")[2]
        if own := self.find(target.name):
            self.origins[target] = own
        return downloads.fetch(url, target, digest=digest, source=self.source, cache=self.cache, subfolder=self.name)

    def take(self, own: Path, name: str, bring: Callable[[Path, Path], None] = copy) -> Fetched:
        """Bring what the user's folder has to the workspace, under a name, as `downloads.take` says."""
        self.origins[self.folder / name] = own
        return downloads.take(own, self.folder / name, bring)

    def images(self, url: str, digest: str | None, *folders: str) -> Fetched:
        """As `fetch`, for a zip file of images; a folder of its name, or one of `folders`, is packed if it is there."""
        archive = url.rpartition("/")[2]
        unpacked = None if self.find(archive) else self.find(archive.removesuffix(".zip"), *folders)
        return self.take(unpacked, archive, pack) if unpacked else self.fetch(url, digest)

    def name_own(self, text: str) -> str:
        """A message with the user's own files in place of their copies here; nobody is asked to delete those."""
        for here, own in self.origins.items():
            if str(here) in text:
                text = text.replace(str(here), str(own)).replace(DOWNLOAD_AGAIN, PACK_AGAIN)
        return text


Assemble = Callable[[Workspace], Prepared]
"""Brings the files into the workspace and makes the table of them; its `file` column names archives there."""


def gather(space: Workspace, folder: Path, options: Options, assemble: Assemble) -> Prepared:
    """Prepare a data set that is published as archives, as `Dataset.prepare` says."""
    with alone(space.cache / f".{space.name}.lock"), reworded(space.name_own):
        whole = assemble(space)
        archives = [file.name for file in whole.files]
        return settle(whole, space.folder, folder, archives, skip_corrupt=options.skip_corrupt)


def gather_split(space: Workspace, folder: Path, options: Options, splits: Mapping[str, Assemble]) -> Prepared:
    """`gather` with the published split that the user chose, which the notes then say."""
    prepared = gather(space, folder, options, splits[options.split])
    return replace(prepared, notes=[f"split: {options.split}", *prepared.notes])


@dataclass(frozen=True, slots=True)
class Photograph:
    """One image and its captions. archive: the zip file's name. name: the image's own, without folders."""

    image_id: str
    archive: str
    name: str
    split: str
    captions: Sequence[str]


def tabulate(photographs: Sequence[Photograph], folder: Path, location: str) -> tuple[pd.DataFrame, list[str]]:
    """The caption table of photographs whose archives are in `folder`, and notes on what is left out.

    White space in captions becomes single spaces, and captions of nothing else are left out and counted. Images
    are found in their archives by name, in whatever folder there. location: the file that the captions come from.
    Raises UserError when an image is there twice, has no caption or no image.
    """
    refuse_twice([photograph.image_id for photograph in photographs], f"{location}: image")
    written = [
        [one_line(f"{location}, image {photograph.name}", caption) for caption in photograph.captions]
        for photograph in photographs
    ]
    silent = [photograph.name for photograph, captions in zip(photographs, written, strict=True) if not any(captions)]
    _require(silent, len(photographs), f"{location} has no caption of")
    members, notes = _locate(photographs, folder)
    empty = sum(not caption for captions in written for caption in captions)
    if empty:
        notes.append(f"{empty} captions without a word are left out")
    rows = [
        (photograph.image_id, file, caption, photograph.split)
        for photograph, file, captions in zip(photographs, members, written, strict=True)
        for caption in captions
        if caption
    ]
    return sort_table(pd.DataFrame(rows, columns=list(COLUMNS))), notes


def _locate(photographs: Sequence[Photograph], folder: Path) -> tuple[list[str], list[str]]:
    """The `file` column's value of each photograph, and how many images of the archives are not asked for."""
    names: dict[str, list[str]] = {}
    for photograph in photographs:
        names.setdefault(photograph.archive, []).append(photograph.name)
    files: dict[tuple[str, str], str] = {}
    notes = []
    for archive, wanted in names.items():
        refuse_twice(wanted, f"{folder / archive}: the image")
        present = _members(folder / archive)
        missing = [name for name in wanted if last(name) not in present]
        _require(missing, len(wanted), f"{folder / archive} lacks")
        found = {name: _only(name, present[last(name)], folder / archive) for name in wanted}
        refuse_twice(list(found.values()), f"{folder / archive}: the image")
        files |= {(archive, name): f"{archive}/{member}" for name, member in found.items()}
        count = sum(map(len, present.values()))
        if count > len(wanted):
            notes.append(f"{count - len(wanted)} images of {archive} are in no split and are left out")
    return [files[photograph.archive, photograph.name] for photograph in photographs], notes


def _only(name: str, members: Sequence[str], path: Path) -> str:
    """The one member that a name means: of several in different folders, that in the folder which it names."""
    if len(members) > 1:
        named = [member for member in members if f"/{member}".endswith(f"/{tidy(name)}")]
        refuse_twice([name] * len(named), f"{path}: the image")
        members = named or members
    refuse_twice([name] * len(members), f"{path}: the image")
    return members[0]


def _members(path: Path) -> dict[str, list[str]]:
    """File name, without folders → members, of the images of an archive."""
    members: dict[str, list[str]] = {}
    with Archive(path) as archive:
        for member in filter(is_image, archive.names()):
            members.setdefault(last(member), []).append(member)
    return members


def images(path: Path) -> frozenset[str]:
    """The file names, without folders, of the images of an archive."""
    return frozenset(_members(path))


def refuse_twice(names: Sequence[str], what: str) -> None:
    """Raise UserError when a name is there more than once. what: is named so."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{what} {name_some(twice)} is there more than once; {REMEDY}")


def _require(missing: Sequence[str], count: int, reason: str) -> None:
    if missing:
        raise UserError(f"{reason} {len(missing)} of the {count} images in the splits: {name_some(missing)}; {REMEDY}")


def differences(counts: Mapping[str, tuple[int, int]], published: Mapping[str, tuple[int, int]]) -> list[str]:
    """Notes on the parts of a data set whose counts are not the published ones: images, captions a part."""
    notes = []
    for part, expected in published.items():
        kinds = zip(("images", "captions"), counts.get(part, (0, 0)), expected, strict=True)
        lines = [f"{count:,} {kind}, published {right:,}" for kind, count, right in kinds if count != right]
        if lines:
            notes.append(f"{part}: {'; '.join(lines)}")
    return notes
