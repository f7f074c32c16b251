"""How captions are printed or written: as text, CSV or JSON lines, a line for each image."""

import csv
import io
import itertools
import json
import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from captioning.cli.places import written
from captioning.system.errors import UserError, escaped, json_escaped

if TYPE_CHECKING:
    from captioning.models.base import Caption
    from captioning.models.objects import Found


class Format(StrEnum):
    """How captions are printed."""

    text = "text"
    csv = "csv"
    jsonl = "jsonl"


_COLUMNS = ("file", "caption", "confidence", "score", "log_probability")


def heading(output: Format) -> str:
    """The first line of the output; empty where there is none."""
    return ",".join(_COLUMNS) if output is Format.csv else ""


def lines(
    path: Path,
    captions: "Sequence[Caption]",
    output: Format,
    sheet: Path | None,
    *,
    several: bool,
    objects: "Sequence[Found] | None" = None,
) -> str:
    """What is printed for an image: its caption, or a list of them with their scores; and its objects, where given.

    What a terminal may obey in a file's name, and bytes of it that are not UTF-8, are written as escapes.
    """
    if output is Format.jsonl:
        return _json(path, captions, sheet, objects, several=several)
    if output is Format.csv:
        return "\n".join(map(_csv, ((escaped(str(path)), *_fields(caption)) for caption in captions)))
    numbers = [f"\t{caption.score:.4f}\t{caption.log_probability:.4f}" if several else "" for caption in captions]
    said = [f"{caption.text}{number}" for caption, number in zip(captions, numbers, strict=True)]
    return "\n".join(f"{escaped(str(path))}\t{line}" for line in (*said, *map(_object, objects or ())))


def _object(one: "Found") -> str:
    """Name, score and box of an object: left, top, right, bottom, in pixels."""
    return "\t".join((one.name, f"{one.score:.4f}", *(f"{side:.1f}" for side in one.box)))


def _json(
    path: Path,
    captions: "Sequence[Caption]",
    sheet: Path | None,
    objects: "Sequence[Found] | None",
    *,
    several: bool,
) -> str:
    best: dict[str, Any] = {"file": str(path), "caption": captions[0].text}
    if captions[0].confidence is not None:
        best["confidence"] = round(captions[0].confidence, 4)
    all_captions = {"captions": [caption.record() for caption in captions]} if several else {}
    attention = {"attention": str(sheet)} if sheet else {}
    listed = {} if objects is None else {"objects": [one.record() for one in objects]}
    return json_escaped(json.dumps(best | all_captions | attention | listed, ensure_ascii=False))


def _fields(caption: "Caption") -> tuple[str, ...]:
    confidence = "" if caption.confidence is None else f"{caption.confidence:.4f}"
    return caption.text, confidence, f"{caption.score:.4f}", f"{caption.log_probability:.4f}"


def _csv(fields: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(fields)
    return stream.getvalue()


class OutputFile:
    """A file that captions are added to, image by image: a run that was stopped goes on after what is there.

    An image whose last captions were never written counts as none: `n_best` of them belong to each image.
    """

    def __init__(self, path: Path, output: Format, n_best: int = 1) -> None:
        """Raises UserError when the file cannot be written, or is no such file; it stays as it is then."""
        self._path = path
        with written("--out", path), path.open("a+b") as stream:
            self.done = self._read(stream, output, n_best)
        if not path.stat().st_size and (first := heading(output)):
            self.add(first)

    def _read(self, stream: IO[bytes], output: Format, n_best: int) -> set[str]:
        """The images that the file has. What was cut short at its end is removed, if the rest are captions."""
        stream.seek(0)
        content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            if content and not whole:
                raise ValueError("no whole line")
            images = _images_of(whole.decode(), output)
        except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as fault:
            raise UserError(
                f"--out {self._path}: not captions as --format {output} writes them; name another file"
            ) from fault
        torn = 0 if output is Format.jsonl else _torn(images, n_best)
        stream.truncate(len(whole) - sum(len(line) + 1 for line in whole.split(b"\n")[-1 - torn : -1]))
        return set(images[: len(images) - torn])

    def add(self, text: str) -> None:
        """Write lines, so that they outlast this process. Raises UserError when they cannot be written."""
        with written("--out", self._path), self._path.open("ab") as stream:
            stream.write(text.encode() + b"\n")

    def sync(self) -> None:
        """Let what was added outlast a power failure too: of a batch at once, since a disk takes milliseconds."""
        with written("--out", self._path), self._path.open("ab") as stream:
            os.fsync(stream.fileno())


def _torn(images: Sequence[str], n_best: int) -> int:
    """How many lines at the end are of an image that has fewer than its captions."""
    last = sum(1 for _ in itertools.takewhile(lambda image: image == images[-1], reversed(images)))
    return last if last < n_best else 0


def _images_of(content: str, output: Format) -> list[str]:
    """The images of a file of captions, as `lines` writes them. Raises ValueError and others for another file."""
    if output is Format.jsonl:
        return [escaped(json.loads(line)["file"]) for line in content.split("\n")[:-1]]
    if output is Format.csv:
        rows = list(csv.reader(io.StringIO(content, newline=""), strict=True))
        if rows and (rows[0] != list(_COLUMNS) or any(len(row) != len(_COLUMNS) for row in rows)):
            raise ValueError("another heading")
        return [row[0] for row in rows[1:]]
    pairs = [line.split("\t") for line in content.split("\n")[:-1]]
    if any(len(pair) not in (2, 4) for pair in pairs):
        raise ValueError("a line without a tab")
    return [pair[0] for pair in pairs]
