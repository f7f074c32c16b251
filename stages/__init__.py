"""The stages of the pipeline, one thin script each: read settings, call the library, write outputs.

A queued or `--temp` experiment runs in a copy of the repository, but an editable install points to the
workspace. So the library beside this folder is put first on the path, here and only here, and checked.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SOURCE = ROOT / "src"
sys.path.insert(0, str(_SOURCE))

import captioning  # noqa: E402
from captioning.settings.resolve import load  # noqa: E402
from captioning.settings.schema import Settings  # noqa: E402
from captioning.settings.yaml_lines import loads  # noqa: E402
from captioning.system import signals  # noqa: E402
from captioning.system.errors import UserError  # noqa: E402
from captioning.system.files import disk_faults_told, scratch  # noqa: E402
from captioning.system.locks import alone  # noqa: E402

_BACK = "DVC removed this stage's outputs before it began; `git restore data && dvc checkout` brings them back"

if not Path(captioning.__file__).resolve().is_relative_to(_SOURCE):
    sys.exit(f"error: captioning was imported from {captioning.__file__}, not from {_SOURCE}; unset PYTHONPATH")


def run(main: Callable[[Settings], None], before: Callable[[], None] = lambda: None) -> None:
    """Run a stage, once at a time in a working folder. before: is done even where the settings are refused.

    A user's mistake, or a disk that is full or may not be written, is printed in one line and ends it with status 1;
    Ctrl-C with 130, SIGTERM with 143.
    """
    signals.heed()
    try:
        with disk_faults_told(Path.cwd()):
            before()
            settings = _settings()
            with _by_itself(main):
                main(settings)
    except UserError as fault:
        sys.exit(f"error: {fault}")
    except KeyboardInterrupt:
        _leave("interrupted", 130)
    except signals.Terminated:
        _leave("terminated", 143)


def code(stage: str) -> dict[str, Path]:
    """The source files that dvc.yaml lists for a stage, by their path in the repository: part of its key."""
    pipeline = loads((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    listed = [ROOT / dep for dep in pipeline["stages"][stage]["deps"] if dep.startswith(("src/", "stages/"))]
    files = [file for path in listed for file in ([path] if path.is_file() else path.rglob("*.py"))]
    return {file.relative_to(ROOT).as_posix(): file for file in sorted(files)}


def _settings() -> Settings:
    """Where DVC was asked for a stage without those before it, `check` did not run, and the outputs are gone."""
    try:
        return load()
    except UserError as fault:
        if os.environ.get("DVC_STAGE", "check") == "check":
            raise
        raise UserError(f"{fault}\n{_BACK}") from None


def _leave(why: str, status: int) -> None:
    print(f"{why}; run the same command again to go on", file=sys.stderr)
    sys.exit(status)


@contextmanager
def _by_itself(main: Callable[[Settings], None]) -> Iterator[None]:
    """A second run of the stage in this folder waits: the first may outlive the `dvc repro` that started it.

    Processes that torchrun started work together, and wait for nobody.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        yield
        return
    stage = Path(main.__code__.co_filename).stem
    folder = sha256(str(Path.cwd().resolve()).encode()).hexdigest()[:8]
    with alone(scratch("running") / f"{stage}-{folder}.lock"):
        yield
