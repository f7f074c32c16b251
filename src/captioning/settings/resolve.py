"""params.yaml, read, checked and with `auto` decided: once, before any stage does its work.

What only a library or this machine can refuse is in `stages/check.py`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from captioning.settings.objects import NONE
from captioning.settings.refusals import REFUSALS
from captioning.settings.rules import AUTO, DRAWN
from captioning.settings.schema import Settings, Written
from captioning.settings.sections import Auto, leaves, marked
from captioning.settings.yaml_lines import describe, key_lines, parse, repeated_keys
from captioning.system.errors import UserError, check_all
from captioning.system.files import main_root

Lines = Mapping[tuple[str, ...], int]
_AUTOS = {key: mark for key, field in leaves(Settings) if (mark := marked(field, Auto))}


def load(path: Path = Path("params.yaml"), overrides: Mapping[str, Any] = MappingProxyType({})) -> Settings:
    """Read the settings, refuse what is wrong in them, and decide `auto`.

    overrides: values by dotted key, in place of those in the file.
    Raises UserError that lists every fault at once, each with its line, its key and the fix.
    """
    written, lines = read(path, overrides)
    settings = resolve(written)
    try:
        check_all(settings, REFUSALS)
    except UserError as fault:
        raise UserError("\n".join(_placed(path, lines, complaint) for complaint in str(fault).splitlines())) from None
    return settings


def read(path: Path, overrides: Mapping[str, Any] = MappingProxyType({})) -> tuple[BaseModel, Lines]:
    """The settings as they are written, and the line of each key. Raises UserError, as `load` does."""
    values, tree = parse(path)
    lines = dict(key_lines(tree))
    for key, value in overrides.items():
        _set(values, key, value)
    faults: dict[str, list[str]] = {f"line {line}: {key} is given twice": [] for key, line in repeated_keys(tree)}
    try:
        written = Written.model_validate(values)
    except ValidationError as invalid:
        for error in invalid.errors():
            where, complaint = describe(dict(error), lines)
            complaints = faults.setdefault(where, [])  # a union complains once a branch
            complaints += [complaint] if complaint not in complaints else []
    if faults:
        raise UserError("\n".join(f"{path}, {where}{' or '.join(messages)}" for where, messages in faults.items()))
    return written, lines


def resolve(written: BaseModel) -> Settings:
    """The settings with `auto` decided; contradictions are not refused here."""
    values = half_resolved(written).model_dump()
    half = Written.model_validate(values)
    for key, rule in AUTO.items():
        if _get(values, key) == "auto":
            _set(values, key, rule(half))
    return Settings.model_validate(values)


def half_resolved(written: BaseModel) -> BaseModel:
    """The settings with `auto` decided where the data set alone decides: what the rules of `AUTO` read."""
    values = written.model_dump()
    for key, mark in _AUTOS.items():
        if mark.simple and _get(values, key) == "auto":
            _set(values, key, mark.drawn if values["dataset"] in DRAWN else mark.photographs)
    return Written.model_validate(values)


def is_auto(key: str, written: BaseModel) -> bool:
    """Is this key `auto` as it is written?"""
    return key in _AUTOS and _get(written.model_dump(), key) == "auto"


def by_data_set(key: str, written: BaseModel) -> bool:
    """Is the value of this key decided by the data set alone?"""
    return is_auto(key, written) and _AUTOS[key].simple


def _placed(path: Path, lines: Lines, complaint: str) -> str:
    """A complaint that begins with a key, after its file and line."""
    line = lines.get(tuple(complaint.partition(" ")[0].rstrip(":").split(".")))
    return f"{path}, line {line}: {complaint}" if line else f"{path}: {complaint}"


def _get(values: Mapping[str, Any], key: str) -> Any:
    for name in key.split("."):
        values = values[name]
    return values


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values = values[section]
    values[name] = value


def for_training(settings: Settings) -> dict[str, Any]:
    """Every setting that decides what is trained: what `model.json` records.

    `train.trackers` is left out, because trackers do not affect the result, and so is `train.pretraining` of 0 epochs.
    """
    named = {name: getattr(settings, name) for name in ("seed", "dataset", "encoder", "decoder")}
    objects = {} if settings.objects == NONE else {"objects": settings.objects}
    unused = {"trackers"} if settings.train.pretraining.epochs else {"trackers", "pretraining"}
    return {
        **named,
        **objects,
        "compute": settings.compute.model_dump(),
        "features": settings.features.model_dump(),
        "decoders": {settings.decoder: vars(decoder_options(settings))},
        "train": settings.train.model_dump(exclude=unused),
    }


def decoder_options(settings: Settings) -> Any:
    """The options of the decoder that is trained."""
    return getattr(settings.decoders, settings.decoder)


def source(named: Path | None) -> Path | None:
    """The folder looked in before the network: `download.source`, or the variable CAPTIONING_SOURCE.

    A relative path is relative to the main repository, in queued experiments too.
    """
    folder = named or os.environ.get("CAPTIONING_SOURCE")
    return main_root() / folder if folder else None
