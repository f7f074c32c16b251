"""Time and peak memory of every stage as the data grows: 1, 4, 16 and 64 times 100 training pictures.

Each stage runs as a process of its own, as DVC would start it, in a temporary copy of the project. The table goes to
docs/growth.csv and a plot of it to docs/growth.svg. An exponent is the slope in log-log: 1 is linear, 0 is flat.
Over all sizes it is lowered by what every start costs (torch alone takes seconds); the last one, from the largest
size but one to the largest, is lowered least.

    python -m benchmarks.growth [FACTOR …]
"""

import csv
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import yaml

STAGES = ("download", "weights", "vocab", "split", "features", "train", "evaluate")
FACTORS = (1, 4, 16, 64)
SPLITS = {"train": 100, "val": 12, "test": 16}  # pictures at factor 1, in the proportions of the default
OUT = Path("docs")


class Row(NamedTuple):
    """One stage at one size; seconds of wall clock, the largest resident set in MiB."""

    stage: str
    images: int
    seconds: float
    peak_mib: float


def main() -> None:
    """Measure, print, and write the table and the plot."""
    factors = [int(factor) for factor in sys.argv[1:]] or FACTORS
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        _copy(project)
        for factor in factors:
            rows += _run(project, factor)
    with (OUT / "growth.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows((row.stage, row.images, f"{row.seconds:.2f}", f"{row.peak_mib:.0f}") for row in rows)
    (OUT / "growth.svg").write_text(_plot(rows), encoding="utf-8")
    _print(rows)


def _copy(project: Path) -> None:
    """What git tracks, as it is in the working folder."""
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True).stdout.splitlines()
    for name in listed:
        if name.startswith(("src/", "stages/", "params.yaml")) and Path(name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, project / name)


def _run(project: Path, factor: int) -> list[Row]:
    """All stages at one size, one epoch of training."""
    path = project / "params.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings["download"]["scenes"] |= {split: factor * count for split, count in SPLITS.items()}
    settings["train"] |= {"epochs": 1}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.rmtree(project / "data", ignore_errors=True)
    rows = [Row(stage, factor * sum(SPLITS.values()), *_measured(project, stage)) for stage in STAGES]
    print(f"{rows[0].images:,} pictures: {sum(row.seconds for row in rows):.0f} s", flush=True)
    return rows


def _measured(project: Path, stage: str) -> tuple[float, float]:
    """Seconds and peak MiB of `python -m stages.STAGE`."""
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    with (project / f"{stage}.log").open("w+", encoding="utf-8") as log:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}"], cwd=project, env=environment, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(f"{stage} ended with status {process.returncode}:\n{log.read()[-3000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_maxrss * unit / 2**20


def _print(rows: list[Row]) -> None:
    sizes = sorted({row.images for row in rows})
    for name, title in (("seconds", "seconds"), ("peak_mib", "peak memory, MiB")):
        print(f"\n| {title} | {' | '.join(f'{size:,}' for size in sizes)} | exponent | the last |")
        print("|---" * (len(sizes) + 3) + "|")
        for stage in STAGES:
            points = [(row.images, getattr(row, name)) for row in rows if row.stage == stage]
            values = " | ".join(f"{value:,.1f}" if name == "seconds" else f"{value:,.0f}" for _, value in points)
            print(f"| {stage} | {values} | {_exponent(points)} | {_exponent(points[-2:])} |")


def _exponent(points: list[tuple[int, float]]) -> str:
    """The slope of the line fitted to log value over log size, by least squares."""
    if len(points) < 2:
        return ""
    x, y = ([math.log(value) for value in axis] for axis in zip(*points, strict=True))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    return f"{slope:.2f}"


# The plot: two panels in log-log, drawn as SVG by hand, since no plotting library is locked.
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 340, 300, 60, 40, 90
_COLOURS = ("#4c78a8", "#9d9da1", "#72b7b2", "#eeca3b", "#54a24b", "#e45756", "#b279a2")


def _plot(rows: list[Row]) -> str:
    panels = [
        _panel([(row.stage, row.images, row.seconds) for row in rows], "seconds", _LEFT),
        _panel([(row.stage, row.images, row.peak_mib) for row in rows], "peak memory, MiB", _LEFT + _WIDTH + _GAP),
    ]
    legend = "".join(
        f'<rect x="{_LEFT + 105 * index}" y="{_TOP + _HEIGHT + 45}" width="12" height="12" fill="{colour}"/>'
        f'<text x="{_LEFT + 105 * index + 17}" y="{_TOP + _HEIGHT + 55}">{stage}</text>'
        for index, (stage, colour) in enumerate(zip(STAGES, _COLOURS, strict=True))
    )
    width, height = 2 * _WIDTH + _GAP + _LEFT + 20, _TOP + _HEIGHT + 75
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(panels)}{legend}</svg>\n'
    )


def _panel(points: list[tuple[str, int, float]], title: str, left: int) -> str:
    """Points (stage, images, value): a line a stage, with ticks at the sizes and at powers of ten."""
    sizes = sorted({images for _, images, _ in points})
    low = 10 ** math.floor(math.log10(min(value for *_, value in points)))
    high = 10 ** math.ceil(math.log10(max(value for *_, value in points)))

    def x(images: float) -> float:
        return left + _WIDTH * math.log(images / sizes[0]) / max(math.log(sizes[-1] / sizes[0]), 1e-9)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - math.log(value / low) / math.log(high / low))

    parts = [f'<text x="{left}" y="{_TOP - 15}" font-weight="bold">{title}</text>']
    for images in sizes:
        parts.append(f'<text x="{x(images):.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{images:,}</text>')
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        height = y(10**power)
        parts.append(f'<path d="M{left} {height:.1f}h{_WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{height + 4:.1f}" text-anchor="end">{10.0**power:,g}</text>')
    for stage, colour in zip(STAGES, _COLOURS, strict=True):
        line = " ".join(f"{x(images):.1f},{y(value):.1f}" for name, images, value in points if name == stage)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return "".join(parts)


if __name__ == "__main__":
    main()
