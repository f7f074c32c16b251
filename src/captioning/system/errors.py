"""The one exception that means "the user can fix this", and how another library's exception is put in words."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

_OBJECT = re.compile(r"<([^<>]*?)(?: object)? at 0x[0-9a-fA-F]+>")
_Subject = TypeVar("_Subject")
_QUOTED = 80  # characters of a quoted text, at most
_TURNS = "\u202a-\u202e\u2066-\u2069"
_UNPRINTED = re.compile(f"[\0-\t\x0b-\x1f\x7f-\x9f\ud800-\udfff{_TURNS}]")  # would steer the screen, or turn a line


class UserError(ValueError):
    """A user's mistake: one line that says what is wrong, where, and what to do.

    Stages and the command line print its text and exit with status 1, without a traceback. Characters that would steer
    the screen are written as `\\x07`.
    """

    def __init__(self, text: str) -> None:
        super().__init__(_UNPRINTED.sub(lambda found: ascii(found[0])[1:-1], text))


def check_all(subject: _Subject, rules: Iterable[Callable[[_Subject], object]]) -> None:
    """Raise UserError with one line for each different complaint of the rules, which raise UserError on their own."""
    complaints: dict[str, None] = {}
    for rule in rules:
        try:
            rule(subject)
        except UserError as fault:
            complaints[str(fault)] = None
    if complaints:
        raise UserError("\n".join(complaints))


def quote(value: object) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"


def reason(fault: BaseException, *, first_line: bool = False) -> str:
    """The text of another library's exception, in one line and without memory addresses; else its class's name.

    An object that its text shows as `<_io.BytesIO object at 0x7f...>` is named `BytesIO`.
    first_line: only the first line of its text, for libraries whose texts are paragraphs.
    """
    lines = str(fault).strip().splitlines()[: 1 if first_line else None]
    text = " ".join(" ".join(lines).split())
    return _OBJECT.sub(lambda shown: shown[1].rpartition(".")[2], text) or type(fault).__name__
