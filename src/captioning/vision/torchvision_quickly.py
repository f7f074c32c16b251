"""torchvision without torch's compiler: importing it takes seconds less.

`torchvision.ops` asks `torch._dynamo.utils` for one function at its top, which loads the whole compiler. Here it gets a
function of that name which loads the compiler when it is called; detection models alone call it.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_MODULES = ("torch._dynamo", "torch._dynamo.utils")


def load() -> ModuleType:
    """`torchvision`, imported. Where the compiler is loaded already, as ever."""
    absent = [name for name in _MODULES if name not in sys.modules]
    if "torchvision" in sys.modules or len(absent) < len(_MODULES):
        return importlib.import_module("torchvision")
    for name in _MODULES:
        sys.modules[name] = _Deferred(name)
    try:
        return importlib.import_module("torchvision")
    finally:
        for name in _MODULES:
            if isinstance(sys.modules.get(name), _Deferred):
                del sys.modules[name]


class _Deferred(ModuleType):
    """A module whose functions load the real one when they are called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*arguments, **options)

        return call
