"""docs/models.md, typed from top to bottom in a tiny project, each of its blocks from the baseline."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
import yaml
from safetensors import safe_open

from captioning.system.files import digest
from tests.pages import Command, reader, typed
from tests.project import TINY, Project

ATTENDING = ("attention", "updown", "transformer", "oscar")
CARD = "data/train/model/model.json"


def changes(command: Command) -> Iterator[tuple[str, Any]]:
    """The settings of `-S key=value`."""
    for key, value in re.findall(r"-S ([\w.]+)=(\S+)", command.text):
        yield key, yaml.safe_load(value)


def check_experiment(project: Project, command: Command) -> None:
    """The model was trained as the command says, and its captions and images of attention are there."""
    card = json.loads(project.read(CARD))
    written = yaml.safe_load(project.read("params.yaml"))
    known = {**card["settings"], "decoder": card["decoder"], **{name: written[name] for name in ("evaluate", "vocab")}}
    for key, value in changes(command):
        here = known
        for name in key.split("."):
            here = here[name]
        assert here == value, f"{command.text}: {key}"
    assert len(json.loads(project.read("data/evaluate/captions.json"))) == 6
    drawn = json.loads(project.read("data/evaluate/attention/index.json"))["pictures"]
    assert len(drawn) == (18 if card["decoder"] in ATTENDING else 0)
    mirrored = list((project.folder / "data/features").glob("mirrored_means-*.npy"))
    assert bool(mirrored) == ("mirror=true" in command.text and card["settings"]["features"]["trainable"] is False)


def check_start(project: Project, command: Command) -> None:
    """What a training with rewards says of itself and of the model that it started from."""
    card = json.loads(project.read(CARD))
    rows = pd.read_csv(project.folder / "data/train/plots/metrics/train/reward/sample.tsv", sep="\t")
    apart = "train.start=baseline" in command.text
    before = 0 if apart else TINY["train"]["epochs"]
    assert rows["step"].tolist() == list(range(before, before + 5))  # epochs, from 0
    assert {"train/reward/sample", "train/reward/baseline", "train/words/sample"} <= card["scores"].keys() or not apart
    started = {"path": "baseline", "sha256": digest(project.folder / "baseline/model.json")} if apart else None
    assert card["provenance"].get("start") == started


def check_pretraining(project: Project) -> None:
    """Its epoch comes first, with a loss of its own, and nothing of it is in the model but the decoder's weights."""
    curves = project.folder / "data/train/plots/metrics"
    steps = {
        name: pd.read_csv(curves / f"{name}.tsv", sep="\t")["step"].tolist()
        for name in ("train/loss/contrast", "val/loss/masked_pieces", "val/loss/caption")
    }
    assert list(steps.values()) == [[0], [0], [1, 2]]
    assert json.loads(project.read(CARD))["scores"]["epoch"] > 1
    with safe_open(project.folder / "data/train/model/decoder.safetensors", "pt") as tensors:
        parts = {name.split(".")[0] for name in tensors.keys()}  # noqa: SIM118 (it is no mapping)
    assert parts == {"bert", "cls", "mask"}


def test_every_command_of_the_page_on_models(copy: Project) -> None:
    models: dict[str, bytes] = {}

    def check(project: Project, command: Command) -> None:
        if command.text.startswith("dvc exp run"):
            check_experiment(project, command)
            models[command.text] = (project.folder / "data/train/model/decoder.safetensors").read_bytes()
        if "self_critical" in command.text:
            check_start(project, command)
        if "pretraining" in command.text:
            check_pretraining(project)

    reader(copy)
    printed = typed(copy, "models.md", anew=True, after=check)
    trained = [text for text in models if "train." in text or "decoder=" in text or "features." in text]
    assert len({models[text] for text in trained}) == len(trained) - 1  # an ensemble reads a model as it is
    assert (copy.folder / "looked/photo-attention.png").exists()
    lists = {text: out.splitlines() for text, out in printed.items() if text.startswith("captioning predict photo.jpg")}
    assert [len(lines) for text, lines in lists.items() if "--n-best 5" in text] == [5, 5]
    assert all("dog" in lines[0] and "red ball" in lines[0] for text, lines in lists.items() if "--must" in text)
