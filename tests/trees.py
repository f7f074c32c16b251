"""What a run left on the disk, compared with what an undisturbed one leaves."""

import re
from pathlib import Path

from captioning.system.files import digest

_LIVE = (
    "metrics.json",
    "plots/metrics",
    "plots/images",
    "plots/curves",
)  # whole at the end only
_TEMPORARY = re.compile(r"/\.[^/]*\.\d+\.tmp(/|$)")


def tree(folder: Path) -> dict[str, str]:
    """Every file of the results and of what is unfinished, with its digest; locks and speeds are not results."""
    paths = [path for part in ("data", ".scratch") for path in sorted((folder / part).rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): digest(path) for path in paths if not path.name.endswith(".lock")}


def difference(found: dict[str, str], wanted: dict[str, str]) -> str:
    """The files that differ, are missing, or should not be there; empty: none."""
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    return ", ".join(
        f"{name} ({'other' if name in found and name in wanted else 'left over' if name in found else 'missing'})"
        for name in names
    )


def half_written(folder: Path, stage: str, wanted: dict[str, str], *, barred: bool = False) -> str:
    """Files of a failed stage under their final names that are not whole, and temporary ones.

    barred: temporary ones could not be removed, and do not count.
    """
    prefix = f"data/{stage}/"
    found = {name: value for name, value in tree(folder).items() if name.startswith(prefix)}
    found = {name: value for name, value in found.items() if not name.removeprefix(prefix).startswith(_LIVE)}
    if barred:
        found = {name: value for name, value in found.items() if not _TEMPORARY.search(name)}
    return difference(found, {name: wanted.get(name, "") for name in found})
