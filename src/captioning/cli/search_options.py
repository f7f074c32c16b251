"""The options of `captioning predict` about the search, made from where they are declared."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer
from annotated_types import Ge, Gt, Le

from captioning.settings import ranges
from captioning.settings.search import USUAL, SearchOptions
from captioning.settings.sections import Meaning, fields_of, marked

_ABOVE = 1e-9  # what is least where a number must be greater than 0: typer's ranges include their ends
BEAM_SIZE = "beam_size"  # has no usual value: it depends on the model's data set


def names() -> tuple[str, ...]:
    """The options, by the names that `SearchOptions` gives them."""
    return (BEAM_SIZE, *USUAL)


def with_search_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes them as `**search` → one with an option for each, in that place."""
    signature, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    options = [_option(name) for name in names()]
    annotations = {parameter.name: hints[parameter.name] for parameter in own}
    command.__annotations__ = annotations | {option.name: option.annotation for option in options}
    command.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return command


def _option(name: str) -> inspect.Parameter:
    field = fields_of(SearchOptions)[name]
    meaning = marked(field, Meaning).text
    attributes: dict[str, Any] = {"help": f"{meaning[0].upper()}{meaning[1:]}."}
    for mark in ranges.number(field)[1]:
        if isinstance(mark, Ge | Gt):
            attributes["min"] = mark.ge if isinstance(mark, Ge) else mark.gt + _ABOVE  # type: ignore[operator]
        elif isinstance(mark, Le):
            attributes["max"] = mark.le
    kind, default = field.annotation, USUAL.get(name)
    if name == BEAM_SIZE:
        kind, attributes["show_default"] = int | None, "evaluate's, or for --n-best"
    annotation = Annotated[kind, typer.Option(**attributes)]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
