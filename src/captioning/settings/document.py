"""What a person reads of the options: the comments of params.yaml, and docs/settings.md.

python -m captioning.settings.document > docs/settings.md
"""

from collections.abc import Iterator
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from captioning.settings import ranges
from captioning.settings.schema import Settings
from captioning.settings.sections import UNSHOWN, Auto, Meaning, fields_of, leaves, marked

_HEAD = """# Settings

`params.yaml` has every setting. This page is made from where they are declared, in
`src/captioning/settings/`, by `python -m captioning.settings.document`.
"""


def comments() -> dict[str, str]:
    """The comment of each option, by dotted key, in the order of params.yaml."""
    return {key: comment(field) for key, field in leaves(Settings)}


def comment(field: FieldInfo) -> str:
    """The comment of an option in params.yaml: `auto`, its meaning, its range."""
    auto: Auto | None = marked(field, Auto)
    meaning, limits = marked(field, Meaning).text, _limits(field)
    if auto and auto.simple:
        meaning = f"auto ({_shown(auto.drawn)} on scenes, {_shown(auto.photographs)} on photographs) | {meaning}"
    elif auto and not meaning.startswith("auto"):
        meaning = f"auto | {meaning}"
    return f"{meaning}; {limits}" if limits else meaning


def table() -> str:
    """docs/settings.md: a table for each section."""
    blocks = [_HEAD, "## Of the experiment", "", *_rows(Settings, "")]
    for name, kind in _sections(Settings, ""):
        if rows := _rows(kind, f"{name}."):
            blocks += ["", f"## {name}", "", *rows]
    return "\n".join(blocks) + "\n"


def _sections(kind: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The sections inside a section, by dotted name, at any depth."""
    for name, field in fields_of(kind).items():
        if fields_of(field.annotation):
            yield f"{prefix}{name}", field.annotation
            yield from _sections(field.annotation, f"{prefix}{name}.")


def _rows(kind: Any, prefix: str) -> list[str]:
    own = {name: field for name, field in fields_of(kind).items() if not fields_of(field.annotation)}
    rows = [f"| `{prefix}{name}` | {comment(field).replace('|', chr(92) + '|')} |" for name, field in own.items()]
    return ["| setting | meaning |", "|---|---|", *rows] if rows else []


def _limits(field: FieldInfo) -> str:
    """The range of a number, in words: `integer >= 1`, `> 0, at most 1`; nothing for other types."""
    kind, marks = ranges.number(field)
    if kind is None:
        return ""
    shown = ((Gt, "gt", "> {:g}"), (Ge, "ge", ">= {:g}"), (Lt, "lt", "below {:g}"), (Le, "le", "at most {:g}"))
    parts = [
        text.format(getattr(mark, name))
        for bound, name, text in shown
        for mark in marks
        if isinstance(mark, bound) and not (name in ("lt", "le") and getattr(mark, name) >= UNSHOWN)
    ]
    return f"integer {', '.join(parts)}".strip() if kind is int else ", ".join(parts)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


if __name__ == "__main__":
    print(table(), end="")
