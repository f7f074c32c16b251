"""check: refuse the settings of all stages before any of them has begun → data/check/.

Every stage depends on this one, which depends on every setting, so DVC runs it first. What it leaves never changes.
"""

from pathlib import Path

from captioning.settings.schema import Settings
from captioning.system import compute
from captioning.system.files import write_text
from stages import run

OUT = Path("data/check")


def main(settings: Settings) -> None:
    compute.pin(portable=settings.compute.portable, threads=settings.compute.threads)
    from stages import checks

    checks.check(settings)


def leave() -> None:
    """Leave the output, whatever comes of the check: a stage whose dependency is missing loses its outputs to DVC."""
    write_text(OUT / "README.txt", "The settings were checked before the other stages ran.\n")


if __name__ == "__main__":
    run(main, before=leave)
