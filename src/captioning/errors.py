"""The one exception that means "the user can mend this"."""

from collections.abc import Callable, Iterable
from typing import TypeVar

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
