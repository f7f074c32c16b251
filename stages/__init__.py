"""The stages of the pipeline, one thin module each: take settings, call the library, write outputs.

A queued or `--temp` experiment runs in a copy of the repository, but an editable install points to the
workspace. So the library beside this folder is put first on the path, here and only here, and checked.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SOURCE = ROOT / "src"
sys.path.insert(0, str(_SOURCE))

from captioning.system import signals  # noqa: E402

signals.advise("run the same command again to go on")
if sys.argv[0] == "-m":  # `python -m stages`: this is loaded first, and takes a second
    signals.leave_at_once()

import captioning  # noqa: E402
from captioning.settings.resolve import load  # noqa: E402
from captioning.settings.schema import Settings  # noqa: E402
from captioning.settings.yaml_lines import loads  # noqa: E402
from captioning.system import compute, quickly, unfinished  # noqa: E402
from captioning.system.errors import UserError, printed  # noqa: E402
from captioning.system.files import disk_faults_told, scratch, write_text  # noqa: E402
from captioning.system.locks import alone  # noqa: E402

STAGES = ("check", "download", "weights", "vocab", "split", "objects", "features", "train", "evaluate")
IN_PROCESSES = ("features", "train", "evaluate")  # stages that `compute.processes` starts several times
_BACK = "DVC removed this stage's outputs before it began; `git restore data && dvc checkout` brings them back"

if not Path(captioning.__file__).resolve().is_relative_to(_SOURCE):
    sys.exit(f"error: captioning was imported from {captioning.__file__}, not from {_SOURCE}; unset PYTHONPATH")


def main() -> None:
    """`python -m stages STAGE`: run one stage of the pipeline; or `verify IMAGES SEED EPOCHS`, see `stages.verify`."""
    name, *numbers = sys.argv[1:] or [""]
    verifies = name == "verify" and len(numbers) == 3 and all(number.isdecimal() for number in numbers)
    if not verifies and (name not in STAGES or numbers):
        sys.exit(f"error: write python -m stages STAGE, with one of {', '.join(STAGES)}")
    try:
        run(name)
    except SystemExit as end:
        quickly.end(end)
    quickly.end(SystemExit(0))


def run(stage: str) -> None:
    """Run a stage, once at a time in a working folder: `python -m stages STAGE`.

    The settings are read first, then the arithmetic of this process is fixed, and only then the stage is imported:
    torch reads the environment when it is loaded. A user's mistake, or a disk that is full or may not be written, is
    printed in one line and ends it with status 1; Ctrl-C with 130, SIGTERM with 143.
    """
    try:
        signals.heed()
        with disk_faults_told(Path.cwd()):
            if stage == "check":
                _leave_check()
            settings = _settings(stage)
            with _by_itself(stage):
                _pinned(stage, settings)
    except (signals.Stopped, Exception) as fault:
        if signals.came():  # a library may have made another exception of it
            line, status = signals.ended()
            print(line, file=sys.stderr)
            sys.exit(status)
        if isinstance(fault, UserError):
            sys.exit(f"error: {printed(fault)}")
        raise
    finally:
        signals.leave_at_once()  # nothing is left to do but to unload libraries


def _pinned(stage: str, settings: Settings) -> None:
    machine = settings.compute
    compute.pin(portable=machine.portable, threads=machine.threads)
    if stage in IN_PROCESSES and compute.ran_in_processes("stages", stage, machine.processes):
        return
    if removed := unfinished.sweep():
        total = unfinished.shown(sum(piece.bytes for piece in removed))
        print(
            f"removed {len(removed)} old pieces of unfinished work, {total} (`captioning clean --dry-run` lists them)"
        )
    signals.leave_at_once()
    with quickly.loading():
        module = import_module(f"stages.{stage}")
    signals.heed()
    module.main(settings)


def _leave_check() -> None:
    """Leave the output of `check`, whatever comes of it: without a dependency, DVC removes a stage's outputs."""
    write_text(Path("data/check/README.txt"), "The settings were checked before the other stages ran.\n")


def code(stage: str) -> dict[str, Path]:
    """The source files that dvc.yaml lists for a stage, by their path in the repository: part of its key."""
    pipeline = loads((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    listed = [ROOT / dep for dep in pipeline["stages"][stage]["deps"] if dep.startswith(("src/", "stages/"))]
    files = [file for path in listed for file in ([path] if path.is_file() else path.rglob("*.py"))]
    return {file.relative_to(ROOT).as_posix(): file for file in sorted(files)}


def _settings(stage: str) -> Settings:
    """When DVC runs a stage without those before it, `check` did not run, and the outputs are gone."""
    try:
        return load()
    except UserError as fault:
        if stage == "check" or "DVC_STAGE" not in os.environ:
            raise
        raise UserError(f"{fault}\n{_BACK}") from None


@contextmanager
def _by_itself(stage: str) -> Iterator[None]:
    """A second run of the stage in this folder waits: the first may outlive the `dvc repro` that started it.

    Processes that torchrun started work together, and wait for nobody.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        yield
        return
    folder = sha256(str(Path.cwd().resolve()).encode()).hexdigest()[:8]
    with alone(scratch("running") / f"{stage}-{folder}.lock"):
        yield
