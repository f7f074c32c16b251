"""What the tiny pipeline gives, held over commits and machines: `tests/golden/tiny_run.json`.

`python -m tests.golden_run` runs it and enters the result for this kind of CPU; commit the file with a reason.
"""

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

from captioning.system import compute
from captioning.system.files import digest, write_json
from tests.imports import ROOT
from tests.project import Project

PATH = ROOT / "tests/golden/tiny_run.json"
DATA = (  # the same bytes on every machine: nothing in them is a sum of rounded numbers
    "data/download/captions.csv",
    "data/download/facts.jsonl",
    "data/download/scenes.zip",
    "data/vocab/vocab.txt",
    "data/split/images.csv",
    "data/split/train.npz",
    "data/split/references_test.json",
    "data/features/index.json",
)
TRAINED = (  # the same bytes on machines with one kind of CPU
    "data/train/model/decoder.safetensors",
    "data/train/model/encoder.safetensors",
    "data/evaluate/captions.json",
)
REPRODUCE = ("dvc", "exp", "run", "-S", "encoder=resnet18")
LOSSES = "data/train/plots/metrics/train/loss/caption.tsv"


def machine() -> str:
    """The kind of CPU: maker, family and model, as GenuineIntel 6/207."""
    lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines())
    values = {name.strip(): value.strip() for name, _, value in lines}
    return f"{compute.cpu_vendor()} {values.get('cpu family', '')}/{values.get('model', '')}"


def read(folder: Path) -> dict[str, Any]:
    """Digests and losses of a project whose pipeline has run."""
    with (folder / LOSSES).open(encoding="utf-8", newline="") as stream:
        losses = [float(row["caption"]) for row in csv.DictReader(stream, delimiter="\t")]
    trained = {name: digest(folder / name) for name in TRAINED}
    return {"data": {name: digest(folder / name) for name in DATA}, "trained": trained, "losses": losses}


def main() -> None:
    golden = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {"machines": {}}
    with tempfile.TemporaryDirectory() as folder:
        project = Project.create(Path(folder) / "project", Path(folder) / "home")
        project.run(*REPRODUCE)
        found = read(project.folder)
    golden["data"] = found.pop("data")
    golden["machines"][machine()] = found
    write_json(PATH, golden)
    print(f"{PATH}: {machine()}")


if __name__ == "__main__":
    main()
