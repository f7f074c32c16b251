"""A minute of damaged inputs, the same ones every time; `python -m tests.inputs` draws others, and more."""

import re
from pathlib import Path

import pytest

from captioning.system.errors import UserError
from tests import inputs


def test_no_damaged_input_ends_in_a_traceback_hangs_or_is_taken_for_another() -> None:
    counts, wrong = inputs.run(3_000, seed=1)
    assert not wrong, "\n".join(wrong)
    assert all(counted["read"] + counted["refused"] == counted.total() > 70 for counted in counts.values())
    assert all(counted["refused"] for name, counted in counts.items() if name != "vocabulary")


def _fail(path: Path) -> None:
    raise UserError("two\nlines, and \x1b" if path.read_bytes() == b"b" else "x" * 400)


@pytest.mark.parametrize(
    ("read", "data", "result"),
    [
        (lambda _: 1 / 0, b"a", "traceback: .*ZeroDivisionError"),
        (lambda path: path.read_bytes(), b"b", "accepted wrongly: "),
        (lambda path: path.read_bytes(), b"a", "read"),
        (_fail, b"b", "refused"),
    ],
)
def test_what_went_wrong_is_seen(read: object, data: bytes, result: str, tmp_path: Path) -> None:
    family = inputs.Family("x", b"a", read, exact=True)  # type: ignore[arg-type]
    assert re.match(result, inputs.outcome(family, data, b"a", tmp_path), re.DOTALL)
