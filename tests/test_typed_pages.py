"""README and most pages of docs, typed from top to bottom in a tiny project."""

import json

import pytest
import yaml

from tests.pages import reader, typed
from tests.project import Project


@pytest.fixture
def typist(copy: Project) -> Project:
    """Who has reproduced the project, and has a photo and short suites."""
    reader(copy)
    return copy


def test_every_command_of_the_readme_and_then_of_the_page_on_reports(typist: Project) -> None:
    printed = typed(typist, "README.md")
    assert "cider" in printed["dvc metrics diff"]
    assert "depth-resnet34: done" in printed["captioning suite run depth"]
    assert "depth-resnet34" in printed["captioning compare main depth-resnet34"]
    assert printed["captioning predict photo.jpg"].startswith("photo.jpg\t")
    assert (typist.folder / "looked/photo-attention.png").exists()
    assert yaml.safe_load(typist.read("params.yaml"))["decoder"] == "lstm"  # the baseline is back
    colleague = typist.folder.with_name("colleague")
    assert "max_words: 3" in (colleague / "params.yaml").read_text()
    assert json.loads((colleague / "data/train/model/model.json").read_text())["decoder"] == "lstm"

    (typist.folder / "report.html").unlink()
    typed(typist, "report.md")
    assert min((typist.folder / name).stat().st_size for name in ("report.html", "depth.html")) > 10_000


def test_every_command_of_the_page_on_sharing(typist: Project) -> None:
    printed = typed(typist, "sharing.md")
    colleague = typist.folder.with_name("colleague")
    assert "winner" in printed["dvc exp list origin --all-commits"]
    assert "max_words: 3" in (colleague / "params.yaml").read_text()
    assert (colleague / "data/train/model/decoder.safetensors").exists()
    released, short, elsewhere = list(printed.values())[-3:]
    assert released.startswith("photo.jpg\t")
    assert elsewhere == short == released  # the experiment changed only `evaluate`
