"""torchvision and timm without torch's compiler: importing them takes seconds less.

`torchvision.ops` asks `torch._dynamo.utils` for one function at its top, and timm's NaFlexViT keeps some functions from
being compiled. Either loads the whole compiler. Here both get stand-ins of these modules.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_MODULES = ("torch._dynamo", "torch._dynamo.utils")


def torchvision() -> ModuleType:
    """`torchvision`, imported. Where the compiler is loaded already, as ever."""
    return _without_the_compiler("torchvision")


def timm() -> ModuleType:
    """`timm`, imported; as above."""
    return _without_the_compiler("timm")


def _without_the_compiler(library: str) -> ModuleType:
    absent = [name for name in _MODULES if name not in sys.modules]
    if library in sys.modules or len(absent) < len(_MODULES):
        return importlib.import_module(library)
    for name in _MODULES:
        sys.modules[name] = _StandIn(name)
    try:
        return importlib.import_module(library)
    finally:
        _remove_stand_ins()


def _remove_stand_ins() -> None:
    for name in _MODULES:
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


class _StandIn(ModuleType):
    """A module whose functions load the real one when they are called, but for `disable`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # a package

    def disable(self, function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Callable[..., Any]:
        """The function itself, or a decorator that returns it. The real one matters only under torch.compile."""
        return (lambda given: given) if function is None else function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            _remove_stand_ins()  # a library that calls at once gets the compiler
            return getattr(importlib.import_module(self.__name__), name)(*arguments, **options)

        return call
