"""The engines by name, and what each needs."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from captioning.system.errors import UserError

Graph = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""A graph that is ready to run: its inputs, in the order of the card, → its outputs."""


class Engine(StrEnum):
    """What runs a model."""

    torch = "torch"
    onnxruntime = "onnxruntime"
    openvino = "openvino"


class Kind(StrEnum):
    """What a model is exported to."""

    onnx = "onnx"
    openvino = "openvino"


class _Needs(NamedTuple):
    """module: has `load` and `side_by_side`. packages: that it imports. reads: what it can run. extra: brings all."""

    module: Callable[[], Any]
    packages: tuple[str, ...]
    reads: tuple[Kind, ...]
    extra: str


def _onnx_runtime() -> Any:
    from captioning.data.runtimes import onnx_runtime

    return onnx_runtime


def _openvino() -> Any:
    from captioning.data.runtimes import openvino_runtime

    return openvino_runtime


_EXPORT = ("onnx", "onnxscript")
MADE_BY = ("onnx", "onnx-ir", "onnxscript")
"""The distributions, beside torch, whose versions decide what a graph is."""
_ENGINES = {
    Engine.onnxruntime: _Needs(_onnx_runtime, ("onnxruntime",), (Kind.onnx,), "onnx"),
    Engine.openvino: _Needs(_openvino, ("openvino",), (Kind.openvino, Kind.onnx), "openvino"),
}


def check_reads(engine: Engine, kind: Kind, folder: Path) -> None:
    """Raise UserError unless the engine runs an exported model of this kind."""
    if engine not in _ENGINES or kind not in _ENGINES[engine].reads:
        fitting = [name for name, needs in _ENGINES.items() if kind in needs.reads]
        raise UserError(
            f"{folder}: exported to {kind}, which {engine} does not run; write --engine {' or '.join(fitting)}"
        )


def check_installed(engine: Engine, asked: str) -> None:
    """Raise UserError, which begins with what was `asked` for, where a package of the engine is missing."""
    _check(_ENGINES[engine].packages, asked, _ENGINES[engine].extra)


def check_traced(engine: Engine, asked: str) -> None:
    """Raise UserError as `check_installed` does, for an engine whose graphs are made on the way."""
    _check((*_ENGINES[engine].packages, *_EXPORT), asked, _ENGINES[engine].extra)


def check_export(kind: Kind) -> None:
    """Raise UserError where a package that exports are made with is missing."""
    further, extra = (("openvino",), "openvino") if kind == Kind.openvino else ((), "onnx")
    _check((*_EXPORT, *further), f"an export to {kind}", extra)


def _check(packages: Sequence[str], what: str, extra: str) -> None:
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{what} needs {name}: pip install 'captioning[{extra}]'")


def load(engine: Engine, path: Path, threads: int) -> Graph:
    """A graph of an exported model, on so many threads. Raises UserError for a file that the engine cannot read."""
    loaded: Graph = _ENGINES[engine].module().load(path, threads)
    return loaded


def side_by_side(engine: Engine, path: Path, count: int, *, bf16: bool) -> list[Graph]:
    """A graph as often as `count` threads call it at once, each on one core. They share its weights.

    bf16: in bfloat16, where the engine has it. Raises UserError as `load` does.
    """
    loaded: list[Graph] = _ENGINES[engine].module().side_by_side(path, count, bf16=bf16)
    return loaded


def versions(engine: Engine) -> dict[str, str]:
    """The versions of the packages that make the engine's graphs, and run them."""
    return {name: _version(name) for name in (*MADE_BY, *_ENGINES[engine].packages)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another distribution has the package, as onnxruntime-gpu
        return str(importlib.import_module(package).__version__)
