"""README and most pages of docs, typed from top to bottom in a tiny project."""

import json
from pathlib import Path

import pytest
import yaml

from tests.pages import reader, typed
from tests.project import Project


@pytest.fixture
def typist(copy: Project) -> Project:
    """Who has reproduced the project, and has a photo and short suites."""
    reader(copy)
    return copy


def of(printed: dict[str, str], begin: str) -> str:
    """What the first command that begins this way printed."""
    return next(text for command, text in printed.items() if command.startswith(begin))


def applied(typist: Project) -> Path:
    """The colleague's folder, in which an experiment was applied: its settings and its model are there."""
    colleague = Project(typist.folder.with_name("colleague"), Path(typist.environment["HOME"]))
    assert "params.yaml" in colleague.run("git", "diff", "--name-only", "HEAD").stdout.split()
    assert json.loads(colleague.read("data/train/model/model.json"))["decoder"] == "lstm"
    return colleague.folder


def test_every_command_of_the_readme_and_then_of_the_page_on_reports(typist: Project) -> None:
    printed = typed(typist, "README.md")
    assert "cider" in of(printed, "dvc metrics diff")
    assert "depth-resnet50" in typist.run("dvc", "exp", "list", "--all-commits").stdout
    assert "depth-resnet50" in of(printed, "captioning compare main depth-resnet50")
    assert of(printed, "captioning predict photo.jpg").startswith("photo.jpg\t")
    assert (typist.folder / "looked/photo-attention.png").exists()
    assert yaml.safe_load(typist.read("params.yaml"))["decoder"] == "lstm"  # the baseline is back
    applied(typist)

    (typist.folder / "report.html").unlink()
    typed(typist, "report.md")
    assert min((typist.folder / name).stat().st_size for name in ("report.html", "depth.html")) > 10_000
    assert (typist.folder / "captions.png").read_bytes() == (typist.folder / "docs/captions.png").read_bytes()


def test_every_command_of_the_page_on_sharing(typist: Project) -> None:
    printed = typed(typist, "sharing.md")
    assert "winner" in of(printed, "dvc exp list origin")
    assert (applied(typist) / "data/train/model/decoder.safetensors").exists()
    released, short, elsewhere = list(printed.values())[-3:]
    assert released.startswith("photo.jpg\t")
    assert elsewhere == short == released  # the experiment changed only `evaluate`
