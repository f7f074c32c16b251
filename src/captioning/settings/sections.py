"""What the options of this package are made of: sections, ranges, and what `auto` means.

An option is declared once, in a section or in a class of options, with its range and one line of meaning. The code that
uses it takes the class; params.yaml, the command line and docs/settings.md are made from it or compared with it.
"""

from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

# Numbers are numbers: `true` is no 1, and "2" no 2. The largest values are those beyond which nobody means what is
# written; a range that says so is not shown.
_LONGEST = 1000  # characters of a name
UNSHOWN = 2000  # a largest value from here on is for mistakes alone
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Natural = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Width = Annotated[int, Field(strict=True, ge=1, le=32_768)]  # of a network's layers
Few = Annotated[int, Field(strict=True, ge=1, le=10_000)]  # of what takes time or memory for each: hypotheses, threads
Positive = Annotated[float, Field(strict=True, gt=0, le=1e9, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, ge=0, lt=1)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Flag = Annotated[bool, Field(strict=True)]


def _written(value: Any) -> Any:
    """Refuse text that says nothing, or that no file and no module can be called."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("it is empty; write null for none, or a name")
    if isinstance(value, str) and any(ord(letter) < ord(" ") for letter in value):
        raise ValueError("it has a control character in it; remove it")
    if isinstance(value, str) and len(value) > _LONGEST:
        raise ValueError(f"it has more than {_LONGEST} characters; write a name")
    return value


Text = Annotated[str, BeforeValidator(_written)]
Location = Annotated[Path, BeforeValidator(_written)]


class Section(BaseModel):
    """A mapping of params.yaml: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Auto(NamedTuple):
    """Marks an option that may be `auto`: its values for drawn images and for photographs.

    Without values, a rule of `resolve` decides.
    """

    drawn: Any = None
    photographs: Any = None

    @property
    def simple(self) -> bool:
        """Does the data set alone decide?"""
        return self.drawn is not None


class Meaning(NamedTuple):
    """What an option is, in one line."""

    text: str


def fields_of(kind: Any) -> dict[str, FieldInfo]:
    """The options of a section or of a class of options, by name; none for anything else.

    A field of a class of options that has no meaning is a constant, and no option.
    """
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return dict(kind.model_fields)
    if isinstance(kind, type) and is_dataclass(kind):
        declared = {
            name: FieldInfo.from_annotation(hint) for name, hint in get_type_hints(kind, include_extras=True).items()
        }
        return {name: field for name, field in declared.items() if marked(field, Meaning)}
    return {}


def leaves(kind: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield (dotted key, declaration) for every option in a section, in the order of params.yaml."""
    for name, field in fields_of(kind).items():
        if fields_of(field.annotation):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def marked(field: FieldInfo, kind: type) -> Any:
    """The `Auto` or `Meaning` of a declaration, or None."""
    return next((mark for mark in field.metadata if isinstance(mark, kind)), None)


def as_written(section: type[BaseModel]) -> type[BaseModel]:
    """The type of a section as a person writes it: `auto` is allowed where it is marked, and constants are unknown."""
    made: dict[str, Any] = {}
    for name, field in fields_of(section).items():
        inner = fields_of(field.annotation)
        if inner:
            made[name] = (as_written(field.annotation), ...)  # type: ignore[arg-type]
        else:
            kind = _rebuilt(field)
            made[name] = (Literal["auto"] | kind if marked(field, Auto) else kind, ...)
    return create_model(f"Written{section.__name__}", __base__=Section, **made)


def _rebuilt(field: FieldInfo) -> Any:
    """The type of a declaration with its range."""
    kind: Any = field.annotation
    for mark in field.metadata:
        if not isinstance(mark, Auto | Meaning):
            kind = Annotated[kind, mark]
    return kind
