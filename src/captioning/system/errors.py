"""The one exception that means "the user can fix this", and how another library's exception is put in words."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

_LONGEST, _END = 290, 90  # characters of a line, and of its end, which says what to do
_OBJECT = re.compile(r"<([^<>]*?)(?: object)? at 0x[0-9a-fA-F]+>")
_Subject = TypeVar("_Subject")


class UserError(ValueError):
    """A user's mistake: one line that says what is wrong, where, and what to do.

    Stages and the command line print its text and exit with status 1, without a traceback.
    """


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


def printed(fault: UserError) -> str:
    """The text of a fault as it is printed: a line that is very long loses its middle."""
    return "\n".join(_shortened(line) for line in str(fault).splitlines())


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - _END - 5]} ... {line[-_END:]}"


def reason(fault: BaseException, *, first_line: bool = False) -> str:
    """The text of another library's exception, in one line and without memory addresses; else its class's name.

    An object that its text shows as `<_io.BytesIO object at 0x7f...>` is named `BytesIO`.
    first_line: only the first line of its text, for libraries whose texts are paragraphs.
    """
    lines = str(fault).strip().splitlines()[: 1 if first_line else None]
    text = " ".join(" ".join(lines).split())
    return _OBJECT.sub(lambda shown: shown[1].rpartition(".")[2], text) or type(fault).__name__
