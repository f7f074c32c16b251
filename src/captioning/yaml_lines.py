"""YAML files that a person writes: their values, and the line of each key, so that a fault can be shown where it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from captioning.errors import UserError, reason


def parse(path: Path) -> tuple[dict[str, Any], yaml.Node]:
    """The values of a YAML file, and its tree, which knows their lines.

    Raises UserError when it is missing, not YAML, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run in the project's folder") from None
    except yaml.YAMLError as fault:
        raise UserError(f"{path}: not YAML: {reason(fault)}") from None
    if not isinstance(values, dict) or tree is None:
        raise UserError(f"{path}: expected `key: value` lines")
    return values, tree


def key_lines(node: yaml.Node, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield (key path, line number) for every key of a YAML mapping."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*prefix, str(key.value))
            yield here, key.start_mark.line + 1
            yield from key_lines(value, here)


def repeated_keys(node: yaml.Node) -> Iterator[tuple[str, int]]:
    """Yield (dotted key, line number) for every key that a YAML mapping gives once more."""
    seen: set[tuple[str, ...]] = set()
    for key, line in key_lines(node):
        if key in seen:
            yield ".".join(key), line
        seen.add(key)
