"""Messages: one line, without memory addresses, whatever another library's exception says."""

import ast
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioning.system.errors import UserError, escaped, json_escaped, quote, reason, shown
from tests.imports import ROOT

SOURCES = sorted(path.relative_to(ROOT) for folder in ("src", "stages") for path in (ROOT / folder).rglob("*.py"))
FOREIGN = "an exception of another library is put in a message with `reason`, which strips memory addresses"


class Outer:
    def method(self) -> None: ...


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"cannot identify image file {io.BytesIO()!r}", "cannot identify image file BytesIO"),
        (f"{Outer()!r} and {Outer()!r}", "Outer and Outer"),
        (f"{reason!r} failed", "function reason failed"),
        ("(<urllib3.connection.HTTPConnection object at 0x7f0e1c2b3d50>: refused)", "(HTTPConnection: refused)"),
        ("two\n  lines,   1 < 2 > 1", "two lines, 1 < 2 > 1"),
        ("", "OSError"),
    ],
    ids=["object", "objects", "function", "foreign", "lines", "empty"],  # the same ones in every process
)
def test_reason_has_one_line_and_no_address(text: str, said: str) -> None:
    assert reason(OSError(text)) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("caf\u00e9 \u72d7", "caf\u00e9 \u72d7"),
        ("caf\udce9\ud800", r"caf\xe9\ud800"),
        ("\x1b[31m\t\n\r\x7f\x9b", r"\x1b[31m\t\n\r\x7f\x9b"),
        ("a\u202egpj\u2028\u2066", r"a\u202egpj\u2028\u2066"),
    ],
)
def test_control_characters_are_escapes(text: str, said: str) -> None:
    assert escaped(text) == said
    assert escaped(said) == said
    assert json.loads(json_escaped(json.dumps(text, ensure_ascii=False))) == text
    assert str(UserError(f"{text}\nb")).endswith("\nb")
    assert "\x1b" not in str(UserError(text))


def test_a_long_name_is_shown_without_its_middle() -> None:
    assert shown("a" * 100) == "a" * 100
    assert len(shown("a" * 5000)) == 99
    assert shown("a" * 60 + "b" * 60).startswith("aaa")


def test_reason_of_a_bound_method_has_no_address() -> None:
    assert "0x" not in reason(OSError(f"bad: {Outer().method!r}!"))


def test_reason_of_the_first_line() -> None:
    assert reason(OSError("first,\nand more"), first_line=True) == "first,"


def test_no_message_steers_the_screen_or_turns_a_line() -> None:
    text = str(UserError("a\x07 \x1b[2J\r\t\u202eb \ud800 \x9b\ntwo, é 狗"))
    assert text == r"a\x07 \x1b[2J\r\t\u202eb \ud800 \x9b" + "\ntwo, é 狗"


def test_a_long_value_is_quoted_in_part() -> None:
    assert quote("a\n") == r"'a\n'"
    assert len(quote("a" * 1000)) == 99


def _quoted_whole(path: Path) -> Iterator[str]:
    """Where a message quotes a caught exception other than UserError: `{fault}` or `str(fault)`, not its attributes."""
    for handler in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(handler, ast.ExceptHandler) and handler.name and ast.unparse(handler.type) not in _OWN:
            for node in ast.walk(handler):
                part = node.value if isinstance(node, ast.FormattedValue) else None
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("str", "repr"):
                    part = node.args[0]
                if isinstance(part, ast.Name) and part.id == handler.name:
                    yield f"{path}:{node.lineno}"


_OWN = ("UserError", "DamagedError", "_InterruptedError")


def test_no_message_quotes_an_exception_as_it_is() -> None:
    assert [place for path in SOURCES for place in _quoted_whole(path)] == [], FOREIGN
    assert re.search(r"0x[0-9a-f]{6}", str(OSError(io.BytesIO())))  # what such a message would show
