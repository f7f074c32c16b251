"""Seconds from archives, or from nothing, to a model that captions validation images this well.

    python -m benchmarks.speed_run [SETTING=VALUE ...]

Runs the stages of the pipeline under these settings in a temporary folder, without DVC and its cache, each in a process
of its own. Prints the seconds of each stage, the validation CIDEr after each epoch of captions, and the test scores.
The last lines are a table row for each goal that was reached. Its time is that of all stages up to `train`, whose
model folder has the CIDEr.

A value that names a file or folder here, such as weights, is linked into that folder.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from captioning.system.files import digest, read_json

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("src", "stages")
GOALS = {"scenes": (1.5, 2.0), "flickr8k": (0.4, 0.5)}  # validation CIDEr by data set
_DIGITS = 12  # of a digest


def stages() -> list[str]:
    """The pipeline's, in order."""
    return list(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


def prepare(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Link the code into `folder`, and write its params.yaml, whose settings are returned."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    yaml = YAML()
    settings = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for override in overrides:
        key, _, value = override.partition("=")
        *sections, name = key.split(".")
        section = settings
        for part in sections:
            section = section.get(part, {})
        if name not in section:
            sys.exit(f"error: {key} is not a setting")
        section[name] = yaml.load(value)
        if value and not Path(value).is_absolute() and Path(value).exists():
            (folder / value).parent.mkdir(parents=True, exist_ok=True)
            (folder / value).symlink_to(Path(value).resolve())
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(settings, file)
    return dict(settings)


def _run(folder: Path, stage: str) -> float:
    """Run a stage; its seconds. What it prints goes to a log in `folder`, which is shown if it fails."""
    begin = time.perf_counter()
    with (folder / f"{stage}.log").open("w", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, "-m", "stages", stage], cwd=folder, stdout=log, stderr=log, env=os.environ
        )
    if done.returncode:
        sys.exit((folder / f"{stage}.log").read_text(encoding="utf-8")[-2000:])
    return time.perf_counter() - begin


def _epochs(folder: Path) -> list[tuple[int, float]]:
    """Each epoch whose captions were validated, and its CIDEr."""
    rows = pd.read_csv(folder / "data" / "train" / "plots" / "curves" / "scores.tsv", sep="\t")
    chosen = rows[rows["curve"] == "CIDEr"]
    return [(int(epoch), float(score)) for epoch, score in zip(chosen["epoch"], chosen["value"], strict=True)]


def _test(folder: Path) -> str:
    """The test scores, in a line."""
    metrics = read_json(folder / "data" / "evaluate" / "metrics.json")
    captions = read_json(folder / "data" / "evaluate" / "captions.json")
    true = f", true {metrics['true_captions']:.3f}" if "true_captions" in metrics else ""
    different = len({caption["caption"] for caption in captions})
    return (
        f"CIDEr {metrics['cider']:.3f}, BLEU-4 {metrics['bleu_4']:.3f}{true}, "
        f"{different} different captions of {len(captions)}"
    )


def rows(
    dataset: str, cider: float, seconds: Mapping[str, float], model: Path, overrides: Sequence[str], commit: str
) -> list[str]:
    """Lines of the table: one for each goal that the model's validation CIDEr reaches.

    seconds: of each stage. model: the folder of the model, which is named by the digest of its model.json.
    """
    spent = sum(seconds[stage] for stage in seconds if stage != "evaluate")
    named = f"`{digest(model / 'model.json')[:_DIGITS]}`"
    command = f"`{' '.join(overrides)}`" if overrides else "the default"
    return [
        f"| {dataset}, {goal:.2f} | {spent:.0f} | {cider:.3f} | {command} | {commit} | {_machine()} | {named} |"
        for goal in GOALS.get(dataset, ())
        if cider >= goal
    ]


def _machine() -> str:
    """The processor's name, and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    name = names[0].partition(":")[2].strip() if names else platform.processor()
    return f"{name}, {cores} cores"


def _commit() -> str:
    """The commit of the code, with + where files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"], cwd=ROOT, capture_output=True, text=True
    )
    return f"`{done.stdout.strip()}`"


def main() -> None:
    overrides = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        settings = prepare(folder, overrides)
        seconds = {stage: _run(folder, stage) for stage in stages()}
        model = folder / "data" / "train" / "model"
        cider = float(read_json(model / "model.json")["scores"]["val/cider"])
        print(" ".join(overrides) or "the default")
        print("  " + ", ".join(f"{stage} {value:.0f} s" for stage, value in seconds.items()))
        for epoch, score in _epochs(folder):
            print(f"  after epoch {epoch}: validation CIDEr {score:.3f}")
        print(f"  test, {sum(seconds.values()):.0f} s in all: {_test(folder)}")
        reached = rows(settings["dataset"], cider, seconds, model, overrides, _commit())
        print(*(reached or ["no goal of the speed run was reached"]), sep="\n")


if __name__ == "__main__":
    main()
