"""Tables of captions that people make: CSV, TSV, JSON Lines or Parquet, and where in the file each row is."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from captioning.data.datasets.base import one_line, refuse_controls
from captioning.system.documents import decode_text
from captioning.system.errors import UserError, quote, reason, shown

NEEDED, OPTIONAL = ("file", "caption"), ("split", "image_id")
_OTHER_NAMES = {"image": "file"}  # of columns: Flickr8k's captions.txt, as Kaggle has it
_SEPARATOR = re.compile(r'"?sep=([,;|\t])"?[,;|\t]*(?=\r?\n)', flags=re.IGNORECASE)  # a first line that Excel writes
_NAMED = 3  # of many faults, so many are named
_Records = Iterator[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Row:
    """One caption. place: `line 3` (of a Parquet file, `row 3`). cells: column → text that is not blank."""

    place: str
    cells: dict[str, str]


def read(path: Path) -> list[Row]:
    """The rows of a table, each with the same columns: file, caption, and perhaps split and image_id.

    The suffix of `path` says what it is: one of FORMATS. CSV and TSV have a header, and quotes as in RFC 4180; lines
    with nothing in them are skipped. Columns may be in capital letters, and `file` may be called `image`. White space
    around a cell is removed, and inside a caption becomes one space.
    Raises UserError with the line (of Parquet, the row) of the first thing that is wrong.
    """
    try:
        rows = [
            Row(location, {column: _clean(f"{path}, {location}", column, value) for column, value in record.items()})
            for location, record in FORMATS[path.suffix.lower()](path)
        ]
    except OSError as fault:
        raise UserError(f"{path}: cannot be read ({fault.strerror or reason(fault)})") from fault
    if not rows:
        raise UserError(f"{path}: no captions there; write one a line, under the header file,caption")
    return rows


def _clean(location: str, column: str, value: Any) -> str:
    """A cell as text without blanks around it."""
    if column == "image_id" and type(value) is int:
        value = str(value)
    if not isinstance(value, str | None):
        raise UserError(f"{location}: {column} = {quote(value)} is not text; write it as text")
    text = (value or "").strip()
    if not text:
        raise UserError(f"{location}: {column} is empty; fill it in, or remove the row")
    if column == "caption":
        return one_line(location, text)
    refuse_controls(location, column, text)
    return text


def _columns(location: str, written: Sequence[str]) -> list[str]:
    """The columns by their own names, from a header. Raises UserError unless there are just those that are needed."""
    columns = [_OTHER_NAMES.get(column.lower(), column.lower()) for column in written]
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    missing = [column for column in NEEDED if column not in columns]
    unknown = [shown(column) for column in columns if column not in NEEDED + OPTIONAL]
    faults = [f"no column {column!r}" for column in missing]
    faults += [f"an unknown column {column!r}" for column in unknown]
    faults += [f"the column {column!r} twice" for column in repeated]
    if faults:
        raise UserError(
            f"{location}: {', '.join(faults[:_NAMED])}; needed are {' and '.join(NEEDED)}, "
            f"and there may be {' and '.join(OPTIONAL)}"
        )
    return columns


def _delimited(path: Path, delimiter: str) -> _Records:
    """CSV or TSV, as RFC 4180 says: a cell with a delimiter, a quote or a line end is in double quotes."""
    text = decode_text(path.read_bytes(), str(path))
    if named := _SEPARATOR.match(text):
        delimiter, text = named[1], text[named.end() :]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        number = lines.line_num + 1
        location = f"{path}, line {number}"
        try:
            cells = [cell.strip() for cell in next(lines)]
        except StopIteration:
            return
        except csv.Error as fault:
            raise UserError(f"{location}: {reason(fault)}; {_QUOTES}") from fault
        if not any(cells):
            continue
        if not header:
            header = _columns(location, cells)
        elif len(cells) != len(header):
            raise UserError(f"{location}: {len(cells)} cells under {len(header)} columns; {_QUOTES}")
        else:
            yield f"line {number}", dict(zip(header, cells, strict=True))


_QUOTES = 'put a cell with a comma, tab or quote in double quotes, and double those inside ("a ""red"" hat")'


def _json_lines(path: Path) -> _Records:
    """An object a line, each with the same keys."""
    columns: tuple[int, set[str]] | None = None
    for number, line in enumerate(decode_text(path.read_bytes(), str(path)).split("\n"), start=1):
        location = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as fault:
            raise UserError(
                f"{location}: not JSON ({getattr(fault, 'msg', None) or reason(fault)}); write an object a line"
            ) from fault
        if not isinstance(pairs, _Pairs):
            raise UserError(f'{location}: not an object; write {{"file": "a.jpg", "caption": "A dog."}}')
        keys = _columns(location, [key for key, _ in pairs])
        columns = columns or (number, set(keys))
        if set(keys) != columns[1]:
            raise UserError(
                f"{location}: it has {', '.join(sorted(keys))}, and line {columns[0]} has "
                f"{', '.join(sorted(columns[1]))}; give every line the same keys"
            )
        yield f"line {number}", dict(zip(keys, (value for _, value in pairs), strict=True))


class _Pairs(list[tuple[str, Any]]):
    """A JSON object before repeated keys are lost."""


def _parquet(path: Path) -> _Records:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as fault:
        raise UserError(
            f"{path}: Parquet needs pyarrow; run `pip install pyarrow`, or write the table as CSV"
        ) from fault
    try:
        with ParquetFile(path) as file:
            columns = _columns(str(path), file.schema_arrow.names)
            first = 1
            for batch in file.iter_batches():
                for number, record in enumerate(batch.to_pylist(), start=first):
                    yield f"row {number}", dict(zip(columns, record.values(), strict=True))
                first += batch.num_rows
    except ArrowException as fault:
        raise UserError(f"{path}: not Parquet, or damaged ({reason(fault)}); write it again") from fault


FORMATS: dict[str, Callable[[Path], _Records]] = {
    ".csv": partial(_delimited, delimiter=","),
    ".tsv": partial(_delimited, delimiter="\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".txt": partial(_delimited, delimiter=","),
}
