"""Rows of a .tsv file, in the layout that Oscar and VinVL publish (Li et al. 2020; Zhang et al. 2021).

A row is `key TAB column …`, in UTF-8. Beside `NAME.tsv` may be `NAME.lineidx`: the byte offset of each row, one a line,
by which other programs find a row without reading those before it. Here it is compared with the rows.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple

from captioning.system.documents import REMEDY
from captioning.system.errors import UserError, quote, shown
from captioning.system.files import atomic

_LONGEST = 1 << 26  # bytes of a row: 100 boxes of 2,054 numbers take 1.1 MB


class Row(NamedTuple):
    """A row. location: file and line, for messages."""

    key: str
    columns: list[str]
    location: str


class Table:
    """A .tsv file, for reading in order or by key; rows stay on disk. An index beside it must be that of the file."""

    def __init__(self, path: Path) -> None:
        """Raises UserError with file and line where the index is not that of the file, or a key is there twice."""
        self.path = path
        with _opened(path) as stream:
            self._places = _scanned(path, stream)
        beside = path.with_suffix(".lineidx")
        if beside.is_file():
            _check_index(beside, [offset for _, offset in self._places.values()])

    def __len__(self) -> int:
        return len(self._places)

    @property
    def keys(self) -> list[str]:
        """The keys, in the order of the file."""
        return list(self._places)

    def __iter__(self) -> Iterator[Row]:
        with _opened(self.path) as stream:
            for key in self._places:
                yield self._read(stream, key)

    def __getitem__(self, key: str) -> Row:
        """The row of a key that is there."""
        with _opened(self.path) as stream:
            return self._read(stream, key)

    def _read(self, stream: BinaryIO, key: str) -> Row:
        line, offset = self._places[key]
        location = f"{self.path}, line {line}"
        stream.seek(offset)
        columns = _columns(_line(stream, location), location)
        return Row(key, columns[1:], location)


def _opened(path: Path) -> BinaryIO:
    try:
        stream = path.open("rb")
    except OSError as fault:
        raise UserError(f"{path}: cannot be read ({fault.strerror})") from None
    if not stream.seekable():  # a pipe: it can be read once, and rows are looked up
        stream.close()
        raise UserError(f"{path}: not a file; save what it says to one, and name that")
    return stream


def _line(stream: BinaryIO, location: str) -> bytes:
    line = stream.readline(_LONGEST + 1)
    if len(line) > _LONGEST:
        raise UserError(f"{location}: longer than {_LONGEST:,} bytes; {REMEDY}")
    return line


def _columns(line: bytes, location: str) -> list[str]:
    """The columns of a line, of which there are at least two. Raises UserError where they are not text."""
    try:
        columns = line.decode("utf-8").rstrip("\r\n").split("\t")
    except UnicodeDecodeError:
        raise UserError(f"{location}: not UTF-8; {REMEDY}") from None
    if len(columns) < 2 or not columns[0].strip() or not columns[0].isprintable():
        raise UserError(f"{location}: not a key, a tab and what belongs to it; {REMEDY}")
    return columns


def _scanned(path: Path, stream: BinaryIO) -> dict[str, tuple[int, int]]:
    """Key → its line, counted from 1, and its byte offset."""
    places: dict[str, tuple[int, int]] = {}
    offset = 0
    for number in count(1):
        location = f"{path}, line {number}"
        line = _line(stream, location)
        if not line:
            break
        key = _columns(line, location)[0]
        if key in places:
            raise UserError(f"{location}: {shown(key)} is on line {places[key][0]} too; {REMEDY}")
        places[key] = number, offset
        offset += len(line)
    return places


def _check_index(path: Path, offsets: list[int]) -> None:
    """Raise UserError unless a .lineidx file has just these offsets."""
    written = path.read_bytes().split()
    wanted = [b"%d" % offset for offset in offsets]
    if written == wanted:
        return
    line = next((number for number, pair in enumerate(zip(written, wanted, strict=False), 1) if pair[0] != pair[1]), 0)
    where = f", line {line}: no row begins there" if line else f": {len(written)} rows, and there are {len(wanted)}"
    raise UserError(f"{path}{where}; remove the file, for it is not needed")


def write(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write keys and what belongs to them to `path`, and the index beside it. Raises ValueError for a repeated key."""
    with ExitStack() as files:
        table, index = (files.enter_context(atomic(one)) for one in (path, path.with_suffix(".lineidx")))
        streams = [files.enter_context(one.open("wb")) for one in (table, index)]
        keys: set[str] = set()
        place = 0
        for key, content in rows:
            line = f"{key}\t{content}\n".encode()
            if key in keys or line.count(b"\n") > 1 or "\t" in key:
                raise ValueError(f"{quote(key)} cannot be the key of another row")
            keys.add(key)
            streams[0].write(line)
            streams[1].write(b"%d\n" % place)
            place += len(line)
        for stream in streams:
            stream.close()
