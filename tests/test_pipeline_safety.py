"""Nothing surprising: a refused setting costs nothing, other images are trained on, and the baseline comes back."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from PIL import Image

from tests.project import OWN, Project
from tests.trees import tree

REFUSED = {  # changes → what is said of them
    ("train.epochs=0",): "train.epochs = 0: data/weights has no decoder",
    ("train.optimizer.ema=1.5",): "train.optimizer.ema = 1.5: input should be 'auto' or input should be less than 1",
    ("train.augment.flip=0.5", "features.trainable=false"): "train.augment.flip = 0.5 is for a trained encoder",
    (
        "features.regions=false",
        "features.trainable=false",
        "decoder=attention",
    ): "features.regions = false: the decoder",
    ("train.augment.image_size=33",): "train.augment.image_size = 33: 32 pixels are stored",
    ("train.encoder.from_block=layer5",): "train.encoder.from_block = 'layer5': mobilenet_v3_small has no such block",
    ("encoder=resnet19",): "encoder: 'resnet19' is no classification backbone",
    ("features.weights=absent.pth",): "features.weights = absent.pth: no such file",
    ("train.start=absent",): "absent/model.json: no such file",
    ("evaluate.ensemble=absent",): "evaluate.ensemble: absent: no such folder",
    ("download.folder=absent",): "download.folder = absent: no such folder",
    ("dataset=folder", "features.weights=none"): "no table of captions there",
    ("download.source=absent",): "no such folder; correct params.yaml or CAPTIONING_SOURCE",
    ("compute.precision=bf16-mixed",): "compute.precision = bf16-mixed needs a GPU",
    ("seed=null",): "seed is empty; write random seed of training",
    ("train.augment.crop=null",): "train.augment.crop is empty; write ",
}
QUEUE_START = """
from types import SimpleNamespace
from captioning.experiments.queueing import Queue
queue = Queue()
queue.start(1)  # `dvc queue start`, whose workers go on when it has ended
queue.wait([SimpleNamespace(name="typo")], 1, lambda *_: None)
"""
TYPO, SAID = "+train.epoch=3", "train.epoch is not a setting; did you mean train.epochs?"


def image_width(project: Project) -> int:
    with ZipFile(project.folder / "data/download/scenes.zip") as archive:
        return Image.open(io.BytesIO(archive.read(archive.namelist()[0]))).width


@pytest.mark.parametrize("change", ["download.scenes.seed=2", "download.scenes.image_size=96"])
def test_an_experiment_with_other_images_is_what_a_new_project_gives(
    copy: Project, home: Path, tmp_path: Path, change: str
) -> None:
    """The scores and every digest: nothing is left of the images of the run before."""
    before = copy.read("dvc.lock")
    copy.run("dvc", "exp", "run", "-S", change)
    new = Project.create(tmp_path / "new", home)
    new.set(change)
    new.run("dvc", "repro")
    assert image_width(copy) == yaml.safe_load(copy.read("params.yaml"))["download"]["scenes"]["image_size"]
    assert copy.read("data/evaluate/metrics.json") == new.read("data/evaluate/metrics.json")
    assert copy.read("dvc.lock") == new.read("dvc.lock") != before


def test_git_restore_and_dvc_checkout_bring_the_baseline_back(copy: Project) -> None:
    """An attention decoder and a frozen encoder have other scalars and other arrays than the baseline."""
    before = tree(copy.folder / "data")
    for changes in (["decoder=attention"], ["decoder=transformer", "features.trainable=false"]):
        copy.run("dvc", "exp", "run", *(part for change in changes for part in ("-S", change)))
        assert json.loads(copy.run("dvc", "status", "--json").stdout) == {}
        copy.run("git", "restore", ".")
        copy.run("dvc", "checkout")
        assert copy.run("git", "status", "--porcelain").stdout == ""
        assert json.loads(copy.run("dvc", "status", "--json").stdout) == {}
        assert tree(copy.folder / "data") == before


@pytest.mark.parametrize("changes", REFUSED, ids=" ".join)
def test_the_check_refuses_what_any_stage_would(project: Project, changes: tuple[str, ...]) -> None:
    before = project.read("params.yaml")
    project.set(*changes)
    try:
        done = project.run("python", "-m", "stages", "check", check=False)
    finally:
        (project.folder / "params.yaml").write_text(before)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert done.stderr.count(REFUSED[changes]) == 1


def test_all_that_is_refused_is_listed_at_once(copy: Project) -> None:
    copy.set("train.encoder.from_block=layer5", "train.start=absent")
    done = copy.run("python", "-m", "stages", "check", check=False)
    assert "has no such block" in done.stderr
    assert "absent/model.json" in done.stderr


def edited(project: Project, *command: str) -> str:
    """The typo in params.yaml, and a command that reads it."""
    path = project.folder / "params.yaml"
    path.write_text(path.read_text().replace("\n  epochs: 2\n", "\n  epochs: 2\n  epoch: 3\n"))
    done = project.run(*command, check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def overridden(project: Project, *options: str) -> str:
    """The typo as an override of one experiment."""
    done = project.run("dvc", "exp", "run", *options, "-S", TYPO, check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def queued(project: Project, *_options: str) -> str:
    """The typo in DVC's queue; its log says what the run did."""
    project.run("dvc", "exp", "run", "--queue", "--name", "typo", "-S", TYPO)
    project.run("python", "-c", QUEUE_START)
    return project.run("dvc", "queue", "logs", "typo").stdout


@pytest.mark.parametrize(
    ("start", "options"),
    [
        (edited, ("dvc", "repro")),
        (edited, ("dvc", "repro", "train")),
        (edited, ("dvc", "repro", "--force")),
        (edited, ("dvc", "exp", "run")),
        (overridden, ()),
        (overridden, ("train",)),
        (overridden, ("--temp",)),
        (queued, ()),
    ],
    ids=lambda value: value.__name__ if callable(value) else " ".join(value),
)
def test_a_typo_costs_nothing(copy: Project, start: Callable[..., str], options: tuple[str, ...]) -> None:
    """However the pipeline is started, DVC runs `check` and nothing else, and every output is still there."""
    before = tree(copy.folder / "data")
    printed = start(copy, *options)
    assert SAID in printed
    assert [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")] == ["check"]
    assert tree(copy.folder / "data") == before
    copy.run("git", "restore", ".")
    assert copy.run("git", "status", "--porcelain").stdout == ""
    assert json.loads(copy.run("dvc", "status", "--json").stdout) == {}


def test_a_stage_by_itself_says_how_its_outputs_come_back(copy: Project) -> None:
    """With --single-item DVC runs no other stage, `check` neither, and removes the outputs first."""
    before = tree(copy.folder / "data")
    printed = edited(copy, "dvc", "repro", "--single-item", "train")
    assert SAID in printed
    assert "git restore data && dvc checkout" in printed
    copy.run("git", "restore", "data")
    copy.run("dvc", "checkout")
    assert tree(copy.folder / "data") == before
    copy.run("git", "restore", "params.yaml")
    assert json.loads(copy.run("dvc", "status", "--json").stdout) == {}


def test_experiments_in_a_copy_differ_in_what_was_given_and_leave_the_workspace_alone(copy: Project) -> None:
    """The commands of the README, from top to bottom, with smaller networks."""
    for name, change in (("deeper", "encoder=resnet34"), ("looks", "decoder=transformer")):
        copy.run("dvc", "exp", "run", "--temp", "-n", name, "-S", change)
        assert copy.run("git", "status", "--porcelain").stdout == ""
        changed = json.loads(copy.run("dvc", "params", "diff", "main", name, "--json").stdout)["params.yaml"]
        assert {f"{key}={value['new']}" for key, value in changed.items()} == {change}
    metrics = json.loads(copy.run("dvc", "metrics", "diff", "main", "deeper", "--all", "--json").stdout)
    assert metrics["data/evaluate/metrics.json"]["cider"].keys() >= {"old", "new"}
    copy.run("dvc", "exp", "apply", "looks")
    assert json.loads(copy.read("data/train/model/model.json"))["decoder"] == "transformer"
    assert json.loads(copy.run("dvc", "status", "--json").stdout) == {}
    copy.run("captioning", "predict", *OWN, "data/evaluate/gallery/test.png", "--attention", "looked")
    copy.run("git", "restore", ".")
    copy.run("dvc", "checkout")
    assert copy.run("git", "status", "--porcelain").stdout == "?? looked/\n"
    assert json.loads(copy.run("dvc", "status", "--json").stdout) == {}
