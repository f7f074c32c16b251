"""Image captioning as a reproducible pipeline: a CNN encoder, a recurrent or attending decoder.

    import captioning

    caption = captioning.load()
    print(caption("photo.jpg").text)

The library is nouns; the verbs are in `stages/`. Nothing here knows DVC, and only
`captioning.settings.resolve` knows params.yaml. Importing `captioning` loads nothing else: a model brings
what runs it, which is torch or another engine.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioning.models.python import Caption, Model, load
    from captioning.system.errors import UserError

__all__ = ["Caption", "Model", "UserError", "load"]


def __getattr__(name: str) -> Any:
    """The public names, each loaded when it is first used."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "captioning.system.errors" if name == "UserError" else "captioning.models.python"
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
