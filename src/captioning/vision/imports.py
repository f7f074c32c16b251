"""torchvision and timm without torch's compiler: importing them takes seconds less.

`torchvision.ops` asks `torch._dynamo.utils` for one function at its top, and timm's NaFlexViT keeps some functions from
being compiled. Either loads the whole compiler. Here both get functions of these names, which load it when they are
called.
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
    """`timm`, imported; as above. Raises ModuleNotFoundError without it."""
    torchvision()  # timm imports it: where the compiler was loaded between the two, this one has it
    return _without_the_compiler("timm")


def _without_the_compiler(library: str) -> ModuleType:
    absent = [name for name in _MODULES if name not in sys.modules]
    if library in sys.modules or len(absent) < len(_MODULES):
        return importlib.import_module(library)
    for name in _MODULES:
        sys.modules[name] = _Deferred(name)
    try:
        return importlib.import_module(library)
    finally:
        for name in _MODULES:
            if isinstance(sys.modules.get(name), _Deferred):
                del sys.modules[name]


class _Deferred(ModuleType):
    """A module whose functions load the real one when they are called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # a package

    def disable(self, function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
        """The function itself. The real one keeps it from being compiled, which is a matter of speed alone."""
        return function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*arguments, **options)

        return call
