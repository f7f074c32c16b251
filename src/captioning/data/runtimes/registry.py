"""The engines by name, and what each needs."""

import importlib.util
from collections.abc import Callable, Sequence
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

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
    """run: path, threads and whether in bfloat16 → graph. packages: that it imports. reads: what it can run."""

    run: Callable[[Path, int, bool], Graph]
    packages: tuple[str, ...]
    reads: tuple[Kind, ...]


def _by_onnx_runtime(path: Path, threads: int, bf16: bool) -> Graph:  # noqa: ARG001 (it has none on a CPU)
    from captioning.data.runtimes import onnx_runtime

    return onnx_runtime.load(path, threads)


def _by_openvino(path: Path, threads: int, bf16: bool) -> Graph:
    from captioning.data.runtimes import openvino_runtime

    return openvino_runtime.load(path, threads, bf16=bf16)


_EXPORT = ("onnx", "onnxscript")
_ENGINES = {
    Engine.onnxruntime: _Needs(_by_onnx_runtime, ("onnxruntime",), (Kind.onnx,)),
    Engine.openvino: _Needs(_by_openvino, ("openvino",), (Kind.openvino, Kind.onnx)),
}
_EXTRAS = {"onnx": "onnx", "onnxscript": "onnx", "onnxruntime": "onnx", "openvino": "openvino"}


def check_reads(engine: Engine, kind: Kind, folder: Path) -> None:
    """Raise UserError unless the engine runs an exported model of this kind."""
    if engine not in _ENGINES or kind not in _ENGINES[engine].reads:
        fitting = [name for name, needs in _ENGINES.items() if kind in needs.reads]
        raise UserError(
            f"{folder}: exported to {kind}, which {engine} does not run; write --engine {' or '.join(fitting)}"
        )


def check_installed(engine: Engine, asked: str) -> None:
    """Raise UserError, which begins with what was `asked` for, where a package of the engine is missing."""
    _check(_ENGINES[engine].packages, asked)


def check_traced(engine: Engine, asked: str) -> None:
    """Raise UserError as `check_installed` does, for an engine whose graphs are made on the way."""
    check_installed(engine, asked)
    _check(_EXPORT, asked)


def check_export(kind: Kind) -> None:
    """Raise UserError where a package that exports are made with is missing."""
    _check((*_EXPORT, *(("openvino",) if kind == Kind.openvino else ())), f"an export to {kind}")


def _check(packages: Sequence[str], what: str) -> None:
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{what} needs {name}: pip install 'captioning[{_EXTRAS[name]}]'")


def load(engine: Engine, path: Path, threads: int, *, bf16: bool = False) -> Graph:
    """A graph of an exported model, on so many threads. bf16: in bfloat16, where the engine has it.

    Raises UserError for a file that the engine cannot read.
    """
    return _ENGINES[engine].run(path, threads, bf16)


def versions(engine: Engine) -> dict[str, str]:
    """The versions of the packages that make the engine's graphs, and run them."""
    return {name: version(name) for name in (*_EXPORT, *_ENGINES[engine].packages)}
