"""How well the default captions its own images, against the seconds it takes.

    python -m benchmarks.speed_run NAME [SETTING=VALUE ...]

Runs the stages of the pipeline under these settings in a temporary folder, without DVC and its cache. Prints the
seconds of each stage, the validation CIDEr after each epoch of captions, and the test scores: CIDEr, the share of
captions in which all that is said is true, and how many different captions there are.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from captioning.system.files import read_json

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("check", "download", "weights", "vocab", "split", "features", "train", "evaluate")
LINKED = ("src", "stages")


def _prepare(folder: Path, overrides: list[str]) -> None:
    """Link the code into `folder`, and write its params.yaml."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    yaml = YAML()
    settings = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for override in overrides:
        key, _, value = override.partition("=")
        *sections, name = key.split(".")
        section = settings
        for part in sections:
            section = section[part]
        if name not in section:
            sys.exit(f"error: {key} is not a setting")
        section[name] = yaml.load(value)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(settings, file)


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


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    name, *overrides = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _prepare(folder, overrides)
        seconds = {stage: _run(folder, stage) for stage in STAGES}
        scores = _epochs(folder)
        test = read_json(folder / "data" / "evaluate" / "metrics.json")
        captions = read_json(folder / "data" / "evaluate" / "captions.json")
    print(f"{name}: {' '.join(overrides) or 'the default'}")
    print("  " + ", ".join(f"{stage} {value:.0f} s" for stage, value in seconds.items()))
    for epoch, score in scores:
        print(f"  after epoch {epoch}: validation CIDEr {score:.3f}")
    different = len({caption["caption"] for caption in captions})
    print(
        f"  test, {sum(seconds.values()):.0f} s in all: CIDEr {test['cider']:.3f}, BLEU-4 {test['bleu_4']:.3f}, "
        f"true {test['true_captions']:.3f}, {different} different captions of {len(captions)}"
    )


if __name__ == "__main__":
    main()
