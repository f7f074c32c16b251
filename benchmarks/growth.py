"""Time and peak memory of every stage as the data grows: 1, 4, 16 and 64 times 100 training images.

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
from matplotlib.figure import Figure

from captioning.experiments import charts

STAGES = ("download", "weights", "vocab", "split", "features", "train", "evaluate")
FACTORS = (1, 4, 16, 64)
SPLITS = {"train": 100, "val": 12, "test": 16}  # images at factor 1, in the proportions of the default
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
    (OUT / "growth.svg").write_bytes(_plot(rows))
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
    print(f"{rows[0].images:,} images: {sum(row.seconds for row in rows):.0f} s", flush=True)
    return rows


def _measured(project: Path, stage: str) -> tuple[float, float]:
    """Seconds and peak MiB of `python -m stages STAGE`."""
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    with (project / f"{stage}.log").open("w+", encoding="utf-8") as log:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "stages", stage], cwd=project, env=environment, stdout=log, stderr=log
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


def _plot(rows: list[Row]) -> bytes:
    """Seconds and peak memory by images, in log-log: a line a stage."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2)
        for axes, name, title in zip(panels, ("seconds", "peak_mib"), ("seconds", "peak memory, MiB"), strict=True):
            axes.set_title(title)
            for stage in STAGES:
                points = [(row.images, getattr(row, name)) for row in rows if row.stage == stage]
                axes.loglog(*zip(*points, strict=True), marker=".", label=stage)
            sizes = sorted({row.images for row in rows})
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
            axes.minorticks_off()
            axes.grid(axis="y", alpha=0.3)
            axes.set_xlabel("images")
        charts.legend(figure, panels[0])

    return charts.svg(7.5, 3.6, draw)


if __name__ == "__main__":
    main()
