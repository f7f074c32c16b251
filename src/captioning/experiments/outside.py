"""Captions and references that other programs wrote: COCO's formats, JSON lines, CSV and TSV.

    .json   COCO's caption document (references), COCO's results (captions), or a list of objects
    .jsonl  an object a line
    .csv    a table with a heading; .tsv with tabs

An object or row has an image (`image_id`, `id`, `file`, `file_name` or `image`) and a caption (`caption`, `text`,
`hypothesis` or `prediction`), or for references a list of them (`captions` or `references`).
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from captioning.system.errors import UserError, reason, shown

_IMAGE = ("image_id", "id", "file", "file_name", "filename", "image")
_CAPTION = ("caption", "text", "hypothesis", "prediction")
_CAPTIONS = ("captions", "references")
_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv")


class Row(NamedTuple):
    """A caption: where it is in its file, its image, its text, and its confidence if there is one."""

    location: str
    image: str
    caption: str
    confidence: str = ""


class CaptionFile(NamedTuple):
    """A file of captions that stands beside revisions: what it is called, its path, the SHA-256 of its bytes."""

    name: str
    path: Path
    sha256: str


class ReferenceFile(NamedTuple):
    """References by image, in the file's order, and file names of images where the file has them."""

    captions: dict[str, list[str]]
    names: dict[str, str]


def read_references(path: Path) -> ReferenceFile:
    """References from a file. Raises UserError, with the place, when it is none of the formats above."""
    value = _document(path)
    names = {}
    if isinstance(value, dict) and isinstance(value.get("images"), list):
        images = [image for image in value["images"] if isinstance(image, dict)]
        names = {str(image.get("id")): str(image["file_name"]) for image in images if "file_name" in image}
    captions: dict[str, list[str]] = {}
    for row in _rows(path, value, several=True):
        captions.setdefault(row.image, []).append(row.caption)
    if not captions:
        raise UserError(f"{path}: no reference in it; name a file of references")
    return ReferenceFile(captions, names)


def read_captions(path: Path, references: ReferenceFile) -> dict[str, str]:
    """One caption for each image of the references, by its name there.

    Images may be called by their id, or by their file's name with or without folders and suffix.
    Raises UserError, with the place, when the file is none of the formats above, has two captions of an image, lacks
    an image of the references, or has others.
    """
    rows = read_rows(path)
    reference_names = _keys(references, rows)
    captions: dict[str, str] = {}
    for row in rows:
        image = reference_names.get(row.image, row.image)
        if image in captions:
            raise UserError(f"{path}, {row.location}: a second caption of image {shown(row.image)}; leave one")
        captions[image] = row.caption
    missing = [image for image in references.captions if image not in captions]
    extra = [image for image in captions if image not in references.captions]
    if missing or extra:
        examples, problem = (extra, "has no references") if extra else (missing, "has no caption there")
        raise UserError(
            f"{path}: {len(examples)} of its images and the references' do not match: {shown(examples[0])} {problem}; "
            "score captions of just the images of the references"
        )
    return {image: captions[image] for image in references.captions}


def read_rows(path: Path) -> list[Row]:
    """The captions of a file, in its order. Raises UserError, with the place, for none of the formats above."""
    return list(_rows(path, _document(path), several=False))


def _keys(references: ReferenceFile, rows: list[Row]) -> Mapping[str, str]:
    """How the file calls images → how the references do: the first way of calling them in which all are known."""
    images = {row.image for row in rows}
    namings = (
        {image: image for image in references.captions},
        _named(references, lambda name: name),
        _named(references, lambda name: PurePosixPath(name).name),
        _named(references, lambda name: PurePosixPath(name).stem),
    )
    for naming in namings:
        if images <= naming.keys():
            return naming
    by_name = namings[2]
    if all(PurePosixPath(image).name in by_name for image in images):
        return {image: by_name[PurePosixPath(image).name] for image in images}
    return namings[0]


def _named(references: ReferenceFile, change: Any) -> dict[str, str]:
    """Images by their changed name; names that two images have are left out."""
    names = references.names or {image: image for image in references.captions}
    by_name: dict[str, str] = {}
    repeated = set()
    for image, name in names.items():
        key = change(name)
        repeated |= {key} & by_name.keys()
        by_name[key] = image
    return {key: image for key, image in by_name.items() if key not in repeated}


def _document(path: Path) -> Any:
    """What a JSON file says, or the text of another one. Raises UserError for another suffix, and for no text."""
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise UserError(f"{path}: captions are read from {', '.join(_SUFFIXES)}; name such a file")
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text) if suffix == ".json" else text
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except json.JSONDecodeError as fault:
        raise UserError(f"{path}, line {fault.lineno}: not JSON ({fault.msg})") from None
    except (OSError, ValueError, RecursionError) as fault:
        raise UserError(f"{path}: cannot be read ({shown(reason(fault))})") from None


def _rows(path: Path, value: Any, *, several: bool) -> Iterator[Row]:
    for location, entry in _entries(path, value):
        if not isinstance(entry, dict):
            raise UserError(f"{path}, {location}: not an object with an image and a caption")
        image = _field(path, location, entry, _IMAGE, "image")
        texts = next((entry[name] for name in _CAPTIONS if isinstance(entry.get(name), list)), None)
        if several and texts is not None:
            yield from (Row(location, image, _text(path, location, caption)) for caption in texts)
        else:
            confidence = entry.get("confidence")
            yield Row(
                location,
                image,
                _text(path, location, _field(path, location, entry, _CAPTION, "caption"), "caption"),
                "" if confidence is None else str(confidence),
            )


def _entries(path: Path, value: Any) -> Iterator[tuple[str, Any]]:
    """Each entry, with its place in the file."""
    if isinstance(value, str) and path.suffix.lower() == ".jsonl":
        for number, line in enumerate(value.split("\n"), start=1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except (ValueError, RecursionError) as fault:
                    raise UserError(f"{path}, line {number}: not JSON ({shown(reason(fault))})") from None
    elif isinstance(value, str) and path.suffix.lower() in (".csv", ".tsv"):
        table = csv.DictReader(io.StringIO(value, newline=""), delimiter="," if path.suffix.lower() == ".csv" else "\t")
        try:
            yield from ((f"line {table.line_num}", row) for row in table)
        except csv.Error as fault:
            raise UserError(f"{path}, line {table.line_num}: not a table ({reason(fault)})") from None
    else:
        entries = value.get("annotations") if isinstance(value, dict) else value
        if not isinstance(entries, list):
            raise UserError(f"{path}: neither a list of captions nor a COCO document with `annotations`")
        yield from ((f"entry {number}", entry) for number, entry in enumerate(entries, start=1))


def _field(path: Path, location: str, entry: Mapping[str, Any], names: tuple[str, ...], noun: str) -> str:
    value = next((entry[name] for name in names if entry.get(name) is not None), None)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{path}, {location}: no {noun} in it (one of {', '.join(names)})")
    return str(value)


def _text(path: Path, location: str, value: Any, noun: str = "reference") -> str:
    """A text. Raises UserError for another value, and for half of a character, which JSON can have and UTF-8 not."""
    if not isinstance(value, str) or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UserError(f"{path}, {location}: a {noun} that is no text")
    return value
