"""The range of an option, as its declaration has it. Here no schema of all options is built, which takes a while."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo


def number(field: FieldInfo) -> tuple[type | None, list[Any]]:
    """The type of a number, int or float, and the marks of its range; None and none for other types."""
    plain = _plain(field.annotation, field.metadata)
    return next(((kind, marks) for kind, marks in plain if kind in (int, float)), (None, []))


def _plain(kind: Any, marks: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """The types that a declaration allows, each with the marks of its range."""
    if get_origin(kind) is Annotated:
        inner, *more = get_args(kind)
        flat = [part for mark in more for part in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]
        yield from _plain(inner, [*marks, *flat])
    elif get_args(kind) and get_origin(kind) not in (tuple, Literal):
        for branch in get_args(kind):
            yield from _plain(branch, marks)
    else:
        yield kind, marks
