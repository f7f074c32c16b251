"""What a revision recorded of its test images, read and checked: a file that is damaged is one line, with its name.

JSON files have the shapes below. Numbers are finite; text is UTF-8.
"""

import csv
import io
import math
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from captioning.experiments.revisions import Revision
from captioning.system.errors import UserError, reason

Kind = TypeVar("Kind")
Number = TypeVar("Number", int, float)
Row = dict[str, str]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class Image(_Strict):
    """A test image: its COCO id, and its file in data/download."""

    id: int
    file_name: str


class Caption(_Strict):
    """A caption of an image, by its COCO id."""

    image_id: int
    caption: str


class Document(_Strict):
    """References in the COCO format."""

    images: Annotated[list[Image], Field(min_length=1)]
    annotations: list[Caption]


class Sheet(_Strict):
    """An attention sheet: its file, and the image's id in the data set."""

    file: str
    image_id: str


class Sheets(_Strict):
    """attention/index.json."""

    pictures: list[Sheet]


DOCUMENT = TypeAdapter(Document)
CAPTIONS = TypeAdapter(list[Caption])
SHEETS = TypeAdapter(Sheets)
SCORES = TypeAdapter(dict[str, dict[str, FiniteFloat]])
SCALARS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def read(revision: Revision, path: str, kind: TypeAdapter[Kind]) -> Kind:
    """A JSON file of a revision. Raises UserError, with file and place, when it is not of this kind."""
    return parse(revision, path, revision.read(path), kind)


def parse(revision: Revision, path: str, data: bytes, kind: TypeAdapter[Kind]) -> Kind:
    """What `read` makes of the bytes of a file."""
    try:
        return kind.validate_json(data)
    except ValidationError as invalid:
        error = invalid.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, error["loc"]))
        raise damaged(revision, path, f"{where}: {error['msg']}" if where else error["msg"]) from None


def rows(revision: Revision, path: str, separator: str, *columns: str) -> list[Row]:
    """The rows of a table of a revision, which has these columns at least.

    Raises UserError, with the file, when it is no such table.
    """
    try:
        table = csv.DictReader(io.StringIO(revision.read(path).decode(), newline=""), delimiter=separator, strict=True)
        parsed = list(table)
    except (UnicodeDecodeError, csv.Error) as fault:
        raise damaged(revision, path, reason(fault)) from None
    missing = [name for name in columns if name not in (table.fieldnames or ())]
    if missing:
        raise damaged(revision, path, f"it has no column {missing[0]}")
    for number, row in enumerate(parsed, start=2):
        if None in row or None in row.values():
            raise damaged(revision, path, f"line {number} has another number of columns than the first")
    return parsed


def numbers(revision: Revision, path: str, table: list[Row], column: str) -> list[float]:
    """A column of a table, as finite numbers. Raises UserError, with file and line, when one is none."""
    values = _numbers(revision, path, table, column, float)
    for line, value in enumerate(values, start=2):
        if not math.isfinite(value):
            raise damaged(revision, path, f"line {line}: {column} = {value}")
    return values


def ids(revision: Revision, path: str, table: list[Row], column: str) -> list[int]:
    """A column of a table, as whole numbers. Raises UserError, with file and line, when one is none."""
    return _numbers(revision, path, table, column, int)


def curve(revision: Revision, path: str) -> list[tuple[int, float]]:
    """Epochs, from 1, and values of one of DVCLive's tables; a value that diverged is nan or inf."""
    table = rows(revision, path, "\t", "step")
    names = [name for name in (table[0] if table else {}) if name != "step"]
    if table and len(names) != 1:
        raise damaged(revision, path, f"it has {len(names)} columns of values")
    values = _numbers(revision, path, table, names[0], float) if table else []
    return [(step + 1, value) for step, value in zip(ids(revision, path, table, "step"), values, strict=True)]


def _numbers(
    revision: Revision, path: str, table: list[Row], column: str, kind: Callable[[str], Number]
) -> list[Number]:
    values = []
    for line, row in enumerate(table, start=2):
        try:
            values.append(kind(row[column]))
        except ValueError:
            problem = f"line {line}: {column} = {row[column][:40]!r} is no number"
            raise damaged(revision, path, problem) from None
    return values


def damaged(revision: Revision, path: str, problem: str) -> UserError:
    """That a file of a revision is not what this version writes."""
    return UserError(
        f"{revision.name}: {path} is not what this version writes ({' '.join(problem.split())[:120]}); "
        f"run its pipeline again (`dvc repro`), or name another revision"
    )
