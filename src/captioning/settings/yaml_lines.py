"""YAML 1.2, as DVC reads it: values, and the line of each key, so that a fault can be shown where it is."""

import difflib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node

from captioning.settings.schema import Settings, Written
from captioning.settings.sections import Meaning, leaves, marked
from captioning.system.errors import UserError, quote, reason, shown

_LONGEST = 220  # characters of another library's message
_MEANINGS = {key: marked(field, Meaning).text for key, field in leaves(Settings)}

_DEEPEST = 50  # sections inside each other
_MOST = 1_000_000  # values in all, an alias counted as what it stands for


def loads(text: str | bytes) -> Any:
    """The values of a YAML text: `1e-5` is a number in it, and `yes` is text.

    Raises YAMLError, of ruamel.yaml, also where a few aliases stand for more than fits into memory.
    """
    try:
        return _bounded(_reader().load(text))
    except YAMLError:
        raise
    except RecursionError:
        raise YAMLError("it is nested too deeply") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as fault:  # of a value, such as 2020-99-99
        raise YAMLError(f"a value cannot be read ({shown(reason(fault))})") from None


def _bounded(values: Any) -> Any:
    """The values, looked through level by level. Raises YAMLError where they have no end, or are too many."""
    level, total = [values], 0
    for _ in range(_DEEPEST):
        level = list(islice(_inside(level), _MOST))
        total += len(level)
        if total >= _MOST:
            raise YAMLError("its aliases stand for too many values")
        if not level:
            return values
    raise YAMLError("it is nested too deeply")


def _inside(level: Iterable[Any]) -> Iterator[Any]:
    for value in level:
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list | tuple | set):
            yield from value


def _reader() -> YAML:
    reader = YAML(typ="safe")
    reader.allow_duplicate_keys = True  # `repeated_keys` names all of them, not the first one alone
    return reader


def parse(path: Path) -> tuple[dict[str, Any], Node]:
    """The values of a YAML file, and its tree, which has their lines.

    Raises UserError when it is missing, not YAML, or no mapping.
    """
    text = _text(path)
    try:
        _refuse_depths(path, text)
        tree, values = _reader().compose(text), loads(text)
    except YAMLError as fault:
        raise UserError(f"{path}: not YAML: {_shortened(reason(fault))}") from None
    if not isinstance(values, dict) or tree is None:
        raise UserError(f"{path}: expected `key: value` lines")
    return values, tree


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run in the project's folder") from None
    except UnicodeDecodeError as fault:
        line = fault.object[: fault.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8") from None
    except OSError as fault:
        raise UserError(f"{path}: cannot be read ({fault.strerror})") from None


def _refuse_depths(path: Path, text: str) -> None:
    """Refuse aliases, a few of which stand for more than fits into memory, and sections inside sections without end."""
    depth = 0
    for event in _reader().parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > _DEEPEST:
            raise UserError(f"{path}, line {event.start_mark.line + 1}: it is nested too deeply; settings are not")
        if isinstance(event, AliasEvent):
            line = event.start_mark.line + 1
            raise UserError(f"{path}, line {line}: the alias *{shown(event.anchor)}; write out what it stands for")


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}..."


def key_lines(node: Node, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield (key path, line number) for every key of a YAML mapping."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            here = (*prefix, str(key.value))
            yield here, key.start_mark.line + 1
            yield from key_lines(value, here)


def repeated_keys(node: Node) -> Iterator[tuple[str, int]]:
    """Yield (dotted key, line number) for every key that a YAML mapping gives once more."""
    seen: set[tuple[str, ...]] = set()
    for key, line in key_lines(node):
        if key in seen:
            yield ".".join(key), line
        seen.add(key)


def describe(error: dict[str, Any], lines: dict[tuple[str, ...], int]) -> tuple[str, str]:
    """A fault that pydantic found, in two halves: where it is (line and key), and what is wrong or to be written."""
    where = tuple(shown(part) for part in error["loc"])
    while where and where not in lines and error["type"] != "missing":
        where = where[:-1]  # pydantic adds the branch of a union to the path
    key = ".".join(where)
    line = lines.get(where, lines.get(where[:-1], 1))
    if error["type"] == "extra_forbidden":
        return f"line {line}: {key} is not a setting", _closest(where)
    if error["type"] == "missing":
        return f"line {line}: {key} is missing", "; add it (see params.yaml in git)"
    if error["input"] == "" and NoneType in get_args(_section(where).model_fields[where[-1]].annotation):
        return f"line {line}: {key} = '': ", f"an empty text; for an empty value write null (`-S {key}=null`)"
    if error["input"] is None and key in _MEANINGS:
        return f"line {line}: {key} is empty", f"; write {_MEANINGS[key]}"
    message = error["msg"].removeprefix("Value error, ")
    return f"line {line}: {key} = {quote(error['input'])}: ", f"{message[0].lower()}{message[1:]}"


def _section(where: tuple[str, ...]) -> type[BaseModel]:
    """The section that a key is in."""
    known: type[BaseModel] = Written
    for part in where[:-1]:
        annotation = known.model_fields[part].annotation
        assert isinstance(annotation, type)
        known = annotation
    return known


def _closest(where: tuple[str, ...]) -> str:
    known = _section(where)
    names = difflib.get_close_matches(where[-1], list(known.model_fields), n=1, cutoff=0.5)
    return f"; did you mean {'.'.join((*where[:-1], names[0]))}?" if names else "; remove it"
