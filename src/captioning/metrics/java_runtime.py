"""What the scores that are Java programs need: a Java runtime, and the package that carries them."""

import importlib.util
import shutil
from pathlib import Path

from captioning.system.errors import UserError


def java_available() -> bool:
    """Whether a `java` command is on the PATH."""
    return shutil.which("java") is not None


def pycocoevalcap() -> Path | None:
    """The folder of the package pycocoevalcap, if it is installed."""
    spec = importlib.util.find_spec("pycocoevalcap")
    return Path(next(iter(spec.submodule_search_locations))) if spec and spec.submodule_search_locations else None


def require(metric: str) -> Path:
    """pycocoevalcap's folder. Raises UserError where it or Java is missing, which `metric` needs."""
    if not java_available():
        raise UserError(f"{metric} needs Java: install a Java runtime, so that `java` is found, or score without it")
    folder = pycocoevalcap()
    if folder is None:
        raise UserError(f"{metric} needs pycocoevalcap: pip install 'captioning[java]', or score without it")
    return folder
