"""Abstract Scenes v1.1: 10,020 scenes of clip art, ten to a set, about six simple sentences each.

Zitnick and Parikh 2013, "Bringing semantics into focus using visual abstraction"; published by Microsoft Research.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from captioning.data.datasets.base import COLUMNS, Options, Prepared, name_some, one_line, sort_table
from captioning.data.datasets.published import Workspace, gather
from captioning.system.archives import Archive
from captioning.system.documents import REMEDY, decode_text
from captioning.system.errors import UserError, quote

name = "abstract_scenes"
URL = "https://download.microsoft.com/download/4/5/D/45D1BBFC-7944-4AC5-AED2-1A35D85662D7/AbstractScenes_v1.1.zip"
_SCENES, _A_SET = 10_020, 10  # published; scenes in one set
_FOLDER = "RenderedScenes"
_TEXTS = ("SimpleSentences1_10020.txt", "SimpleSentences2_10020.txt")
_IMAGE = re.compile(r"Scene([0-9]+)_([0-9]+)\.png")
_LINE = re.compile(r"([0-9]+)\t[0-9]+\t([^\t]*\S[^\t]*)")


def prepare(folder: Path, options: Options, cache: Path, url: str = URL) -> Prepared:
    """Bring the archive into `folder` and return the table of captions, as `Dataset` says.

    No digest is published, so what comes is taken, and its sha256 recorded.
    """
    return gather(Workspace(name, options.source, cache), folder, options, partial(_assemble, url=url))


def _assemble(space: Workspace, url: str) -> Prepared:
    archive = space.fetch(url, None)
    table, notes = read(space.folder / archive.name)
    return Prepared(table, [archive], notes)


def split_of(scene: int) -> str:
    """The split of a scene, by its set: of ten sets, the ninth is for validation and the tenth for the test.

    The ten scenes of a set were drawn after one description and are much alike, so a set is never divided. Of 1,002
    sets, 802 are in train, 100 in val and 100 in test; any ten sets in a row have all three.
    """
    return {8: "val", 9: "test"}.get(scene // _A_SET % 10, "train")


def read(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table of captions of the archive, and notes on what is left out or is not as published.

    image_id is the scene's number, 10 * set + its place in the set. Raises UserError that names file and line of what
    is malformed, or what is missing.
    """
    with Archive(path) as archive:
        images, strangers = _find_images(archive)
        sentences = [pair for text in _TEXTS for pair in _read_sentences(archive, text)]
    rows = [
        (str(scene), f"{path.name}/{images[scene]}", sentence, split_of(scene))
        for scene, sentence in sentences
        if scene in images
    ]
    notes = _differences(images, sentences)
    if strangers:
        notes.append(f"{len(strangers)} files in {_FOLDER}/ are no scenes and are left out: {name_some(strangers)}")
    return sort_table(pd.DataFrame(rows, columns=list(COLUMNS))), notes


def _find_images(archive: Archive) -> tuple[dict[int, str], list[str]]:
    """Scene → member, and the members beside them that are no scene."""
    folders = defaultdict(list)
    for member in archive.names():
        if PurePosixPath(member).parent.name == _FOLDER:
            folders[PurePosixPath(member).parent].append(member)
    if len(folders) != 1:
        described = f"{len(folders)} folders" if folders else "no folder"
        raise UserError(f"{archive.path}: it has {described} {_FOLDER}/; {REMEDY}")
    images: dict[int, str] = {}
    strangers = []
    for member in next(iter(folders.values())):
        match = _IMAGE.fullmatch(PurePosixPath(member).name)
        if not match or int(match[2]) >= _A_SET:
            strangers.append(member)
            continue
        scene = _A_SET * int(match[1]) + int(match[2])
        if scene in images:
            raise UserError(f"{archive.path}: {images[scene]} and {member} are the same scene; {REMEDY}")
        images[scene] = member
    return images, strangers


def _read_sentences(archive: Archive, text: str) -> list[tuple[int, str]]:
    members = [member for member in archive.names() if PurePosixPath(member).name == text]
    if len(members) != 1:
        raise UserError(f"{archive.path}: it has {len(members) or 'no'} files {text}; {REMEDY}")
    location = f"{archive.path}/{members[0]}"
    return parse_sentences(decode_text(archive.read(members[0]), location), location)


def parse_sentences(text: str, location: str) -> list[tuple[int, str]]:
    """Lines `scene<TAB>number<TAB>sentence` → (scene, sentence); every other line is blank, as published.

    Raises UserError with `place` and the line number for any other line.
    """
    sentences = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise UserError(f"{location}, line {number}: {quote(line)} is not scene<TAB>number<TAB>sentence; {REMEDY}")
        sentences.append((int(match[1]), one_line(f"{location}, line {number}", match[2])))
    return sentences


def _differences(images: dict[int, str], sentences: Sequence[tuple[int, str]]) -> list[str]:
    """What is not as published, or has no counterpart, in words."""
    described = {scene for scene, _ in sentences}
    silent = [member for scene, member in sorted(images.items()) if scene not in described]
    absent = [str(scene) for scene in sorted(described - images.keys())]
    notes = []
    if len(images) != _SCENES:
        notes.append(f"{len(images):,} scenes are in the archive; published are {_SCENES:,}")
    if silent:
        notes.append(f"{len(silent)} scenes have no sentence and are left out: {name_some(silent)}")
    if absent:
        notes.append(f"the sentences of {len(absent)} scenes without an image are left out: {name_some(absent)}")
    return notes
