"""Kinds of files, and ways to damage them that are drawn."""

import json
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

_PIECES = (
    b"",
    b"\0",
    b"\xff",
    b"\xe2\x80\xae",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\n",
    b"\r",
    b"-1",
    b"1e999",
    b"null",
)
_VALUES: tuple[Any, ...] = (  # of other types than those that are expected
    *(None, True, -1, 0, 10**30, 1e308, "", "x" * 5000, "\ud800", "\0", "../../etc/passwd", "/dev/null"),
    *([], {}, [None], [[]], {"": None}, ["a", 1]),
)


class Family(NamedTuple):
    """One kind of file: its name, a whole one, and what reads it. exact: damage is noticed, or means nothing."""

    name: str
    whole: bytes
    read: Callable[[Path], Any]
    exact: bool = False


def damage(whole: bytes, draw: random.Random) -> bytes:
    """One to three faults: a flipped bit, other bytes, a piece cut out, put in or moved, or an early end."""
    data = bytearray(whole)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(data) + 1)
        kind = draw.randrange(6)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[place : place + draw.randint(1, 4)] = draw.randbytes(draw.randint(1, 4))
        elif kind == 2:
            del data[place : place + draw.randint(1, 60)]
        elif kind == 3:
            data[place:place] = draw.choice(_PIECES)
        elif kind == 4:
            data[place:place] = data[place : place + draw.randint(1, 60)]
        elif draw.random() < 0.3:
            del data[place:]
    return bytes(data)


def retyped(whole: bytes, draw: random.Random) -> bytes:
    """A JSON document in which one or two values are of another type, missing, or under another name."""
    document = json.loads(whole)
    for _ in range(draw.randint(1, 2)):
        places = list(_places(document))
        if not places:
            break
        inside, key = draw.choice(places)
        kind = draw.randrange(4)
        if kind == 0:
            del inside[key]
        elif kind == 1 and isinstance(inside, dict):
            inside[draw.choice(["", "x", "image_id"])] = inside.pop(key)
        else:
            inside[key] = draw.choice(_VALUES)
    return json.dumps(document).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every value inside of a document, by what has it and its key there."""
    keys = document.keys() if isinstance(document, dict) else range(len(document) if isinstance(document, list) else 0)
    for key in keys:
        yield document, key
        yield from _places(document[key])


def written(write: Callable[[Path], object], name: str = "a") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with some flipped, cut out or put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "end"]))
        if kind == "flip" and data:
            data[place] = draw(st.integers(0, 255))
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "end":
            del data[place:]
    return bytes(data)
