"""The one exception that means "the user can fix this", and how another library's exception is put in words."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_LONGEST, _END = 290, 90  # characters of a line, and of its end, which says what to do
# what a terminal may obey, what breaks a line, what turns the order of letters, what no encoding knows
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_NAME = 100  # letters of a name in a message
_OBJECT = re.compile(r"<([^<>]*?)(?: object)? at 0x[0-9a-fA-F]+>")
_Subject = TypeVar("_Subject")


class UserError(ValueError):
    """A user's mistake: one line that says what is wrong, where, and what to do.

    Stages and the command line print its text and exit with status 1, without a traceback. Control characters in it,
    from whatever file they came, are written as escapes.
    """

    def __init__(self, text: str) -> None:
        super().__init__("\n".join(map(escaped, text.split("\n"))))


def escaped(text: str) -> str:
    """The text with its control characters as escapes: `\\n`, `\\x1b`; `\\xe9` for a byte that is not UTF-8."""
    return _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0  # how Python writes such a byte of a file's name
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def json_escaped(text: str) -> str:
    """JSON with its control characters as escapes of JSON: it reads back as the same text."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown(name: object) -> str:
    """A name from outside as messages have it: without control characters, and its middle left out if it is long."""
    text = escaped(str(name))
    half = (_LONGEST_NAME - 1) // 2
    return text if len(text) <= _LONGEST_NAME else f"{text[:half]}…{text[-half:]}"


@contextmanager
def reworded(change: Callable[[str], str]) -> Iterator[None]:
    """Change the text of a UserError of the block, so that it names what the user knows."""
    try:
        yield
    except UserError as fault:
        raise UserError(change(str(fault))) from fault


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


def quote(value: object) -> str:
    """A value as Python writes it, as `shown` shortens it."""
    return shown(repr(value))


def reason(fault: BaseException, *, first_line: bool = False) -> str:
    """The text of another library's exception, in one line and without memory addresses; else its class's name.

    An object that its text shows as `<_io.BytesIO object at 0x7f...>` is named `BytesIO`.
    first_line: only the first line of its text, for libraries whose texts are paragraphs.
    """
    lines = str(fault).strip().splitlines()[: 1 if first_line else None]
    text = " ".join(" ".join(lines).split())
    return _OBJECT.sub(lambda shown: shown[1].rpartition(".")[2], text) or type(fault).__name__
