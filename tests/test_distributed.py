"""Several processes on this machine, through torchrun and gloo: the results of one, and a failure of one ends all."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests import ranks
from tests.imports import ROOT
from tests.project import Project

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")


# how far numbers may be apart, relative or absolute, by a part of their name: small differences grow from step to step
# through BatchNorm and Adam, in gradients first
TOLERANCES = {"gradient_norm": 1e-2, "update_ratio": 1e-2, "val/": 1e-3, "": 1e-5}


def assert_close(found: Any, expected: Any, name: str = "") -> None:
    """The same structure, texts and integers; real numbers up to the tolerance of their name."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(found[key], value, f"{name}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), name
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, name)
    elif isinstance(expected, float):
        tolerance = next(value for part, value in TOLERANCES.items() if part in name)
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance), name
    else:
        assert found == expected, name


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What three processes find; the last step of an epoch has fewer images than there are processes."""
    folder = tmp_path_factory.mktemp("ranks")
    out = folder / "found.json"
    command = [*TORCHRUN, "3", "-m", "tests.ranks", str(out)]
    scratch = {"DVC_ROOT": str(folder)}
    done = subprocess.run(command, cwd=ROOT, env=os.environ | scratch, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_statistics_and_gradients_are_those_of_the_whole_batch(three: dict[str, Any]) -> None:
    norm, values, weights = ranks.batch_to_normalise()
    output = norm(values.requires_grad_())
    (output * weights).sum().backward()
    assert values.grad is not None
    assert norm.weight.grad is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    found = three["normalised"]
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(torch.tensor(found["values"]), output.detach(), **close)
    torch.testing.assert_close(torch.tensor(found["gradient"]), values.grad, **close)
    torch.testing.assert_close(torch.tensor(found["weight_gradients"]).sum(0), norm.weight.grad, **close)
    torch.testing.assert_close(
        torch.tensor(found["running"]), torch.stack([norm.running_mean, norm.running_var]), **close
    )
    assert not torch.tensor(found["stand_in_gradient"]).any()


@pytest.mark.parametrize(
    ("name", "pixels", "changes"),
    [
        ("features", False, {}),
        ("pixels", True, {}),
        ("critical", False, ranks.CRITICAL),
        ("critical_pixels", True, ranks.CRITICAL),
    ],
)
def test_training_in_three_processes_is_that_of_one(
    three: dict[str, Any], name: str, pixels: bool, changes: dict[str, Any]
) -> None:
    """Captions that are drawn are the same too: an image's random numbers are its own, whatever process draws them."""
    found, alone = three[name], ranks.trained(pixels, **changes)
    assert_close(found["history"], alone["history"])
    assert found["captions"] == alone["captions"]
    assert found["weights"][0] == found["weights"][1] == found["weights"][2]


def test_pretraining_in_three_processes_is_that_of_one(three: dict[str, Any]) -> None:
    """Pairs and hidden pieces are a caption's own, and so are the same."""
    found, alone = three["pretrained"], ranks.pretrained()
    assert_close(found["history"], alone["history"])
    assert "val/loss/masked_pieces" in found["history"][1]
    assert found["weights"][0] == found["weights"][1] == found["weights"][2]


def test_processes_draw_different_dropout_and_resume_where_they_were(three: dict[str, Any]) -> None:
    assert len(set(three["dropout"]["seeds"])) == 3
    assert three["dropout"]["seeds"] == three["features"]["seeds"]
    assert three["dropout"]["history"] != three["features"]["history"]
    assert_close(three["resumed"]["history"], three["dropout"]["history"])
    assert three["resumed"]["captions"] == three["dropout"]["captions"]


def test_an_encoder_that_starts_late_does_so_in_three_processes(three: dict[str, Any]) -> None:
    found, alone = three["late"], ranks.trained(True, start_epoch=2)
    assert_close(found["history"], alone["history"])
    assert found["weights"][0] == found["weights"][1] == found["weights"][2]


@pytest.mark.parametrize("name", ["drawn", "critical_drawn"])
def test_images_and_words_that_are_drawn_resume_where_they_were(three: dict[str, Any], name: str) -> None:
    assert_close(three[f"{name}_resumed"]["history"], three[name]["history"])
    assert three[f"{name}_resumed"]["captions"] == three[name]["captions"]
    assert len(set(three[name]["weights"])) == 1


def test_images_and_words_that_are_drawn_change_the_training(three: dict[str, Any]) -> None:
    drawn, late = ([row["train/loss/caption"] for row in three[name]["history"]] for name in ("drawn", "late"))
    assert drawn != pytest.approx(late, rel=1e-3)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Project:
    """A tiny project up to `objects`, with a frozen encoder and no dropout."""
    project = Project.create(tmp_path_factory.mktemp("project"), home)
    path = project.folder / "params.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["features"]["trainable"] = False
    settings["decoders"]["lstm"]["dropout"] = 0.0
    path.write_text(yaml.safe_dump(settings))
    for stage in ("check", "download", "weights", "vocab", "split", "objects"):
        project.run("python", "-m", "stages", stage)
    return project


def copied(project: Project, folder: Path, home: Path, processes: int) -> Project:
    """A copy of a project, with `compute.processes` set."""
    shutil.copytree(project.folder, folder)
    copy = Project(folder, home)
    in_processes(copy, processes)
    return copy


def in_processes(project: Project, processes: int) -> None:
    path = project.folder / "params.yaml"
    path.write_text(path.read_text().replace("processes: 1", f"processes: {processes}"))


def outputs(project: Project, stage: str) -> dict[str, Any]:
    """What a stage wrote, by file; JSON and tables of scalars as values, all else as bytes."""
    found: dict[str, Any] = {}
    folder = project.folder / "data" / stage
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json" and path.name != "model.json":
            found[name] = json.loads(path.read_text())
        elif path.suffix == ".tsv" and path.parent.parent.name == "metrics":
            found[name] = [[float(cell) for cell in line.split("\t")] for line in path.read_text().splitlines()[1:]]
        elif path.is_file() and path.suffix not in (".json", ".safetensors", ".tsv", ".csv"):
            found[name] = path.read_bytes()
    return found


def test_the_stages_in_two_processes_write_what_one_writes(prepared: Project, home: Path, tmp_path: Path) -> None:
    """`features` is started by torchrun itself, as on several machines; the others by the setting."""
    one, two = copied(prepared, tmp_path / "one", home, 1), copied(prepared, tmp_path / "two", home, 1)
    one.run("python", "-m", "stages", "features")
    printed = two.run(*TORCHRUN, "2", "-m", "stages", "features").stdout
    assert printed.count("features.trainable") == 1
    for path in (one.folder / "data/features").iterdir():
        assert path.read_bytes() == (two.folder / "data/features" / path.name).read_bytes()
    in_processes(two, 2)
    for stage in ("train", "evaluate"):
        for project in (one, two):
            project.run("python", "-m", "stages", stage)
        assert_close(outputs(two, stage), outputs(one, stage))
    assert not list((two.folder / ".scratch/train").iterdir())
    card = json.loads(two.read("data/train/model/model.json"))
    assert card["compute"]["processes"] == 2


def test_a_failure_of_one_process_ends_all(prepared: Project, home: Path, tmp_path: Path) -> None:
    """An image of the second process's shard is damaged; the first one waits for it at the end."""
    project = copied(prepared, tmp_path / "broken", home, 2)
    file = project.read("data/split/images.csv").splitlines()[1 + 20].split(",")[1]
    archive, _, member = file.partition("/")
    path = project.folder / "data/download" / archive
    with zipfile.ZipFile(path) as opened:
        start = opened.getinfo(member).header_offset + 200
    data = bytearray(path.read_bytes())
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    done = project.run("python", "-m", "stages", "features", check=False)
    assert done.returncode == 1
    assert f"member {member!r}" in done.stderr
    assert re.search(r"error: features: process \d of 2 ended with status 1; its messages are above", done.stderr)
    assert not (project.folder / "data/features").exists()
