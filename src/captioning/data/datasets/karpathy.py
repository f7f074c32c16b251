"""Karpathy's splits of Flickr8k, Flickr30k and COCO 2014 (Karpathy and Fei-Fei 2015), captions included.

`dataset_{flickr8k,flickr30k,coco}.json` hold `images[]` with `filename`, `filepath` (COCO: the folder), `cocoid`
(COCO), `split` (train, restval, val, test) and `sentences[].raw`. `restval` is what is left of COCO's validation
images, and is trained on.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import TypeAdapter

from captioning.data.datasets.published import Workspace
from captioning.data.network.downloads import Fetched
from captioning.system.archives import Archive
from captioning.system.documents import parse_json

URL = "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"


@dataclass(frozen=True, slots=True)
class _Sentence:
    raw: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a split. filepath, cocoid: COCO's folder and number, elsewhere absent."""

    filename: str
    split: Literal["train", "restval", "val", "test"]
    sentences: list[_Sentence]
    filepath: str = ""
    cocoid: int | None = None

    @property
    def captions(self) -> list[str]:
        """The captions as they were written."""
        return [sentence.raw for sentence in self.sentences]

    @property
    def used_as(self) -> str:
        """train, val or test: what the image is for here."""
        return "train" if self.split == "restval" else self.split


@dataclass(frozen=True, slots=True)
class _Document:
    images: list[Entry]


_SHAPE = TypeAdapter(_Document)


def bring(space: Workspace, document: str) -> Fetched:
    """Bring the document: as it is, where the user's folder has it, else in the published archive of all three."""
    file = space.find(document)
    return space.take(file, document) if file else space.fetch(URL, None)


def read(path: Path, document: str) -> tuple[list[Entry], str]:
    """The images of a document, from what `bring` brought, and where it is, for messages.

    Raises UserError when it is missing, not JSON, or of another shape.
    """
    if path.name == document:
        return parse_json(path.read_bytes(), str(path), _SHAPE).images, str(path)
    with Archive(path) as archive:
        member = next((name for name in archive.names() if PurePosixPath(name).name == document), document)
        location = f"{path}/{member}"
        return parse_json(archive.read(member), location, _SHAPE).images, location


def counts(entries: Sequence[Entry]) -> dict[str, tuple[int, int]]:
    """Split → images, captions."""
    images = Counter(entry.split for entry in entries)
    captions: Counter[str] = Counter()
    for entry in entries:
        captions[entry.split] += len(entry.sentences)
    return {split: (images[split], captions[split]) for split in images}
