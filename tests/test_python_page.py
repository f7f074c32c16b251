"""docs/python.md: every block runs, as it stands."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from captioning.models import shipped
from tests.imports import ROOT

BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/python.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("python")
    shutil.copy(ROOT / "docs/photographs/cat.jpg", place / "photo.jpg")
    shutil.copytree(shipped.folder("photographs"), place / "data/train/model")
    return place


def test_the_page_has_blocks() -> None:
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs(folder: Path, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BLOCKS[number]],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    if number == 0:
        assert "cat" in done.stdout or len(done.stdout.split()) > 2


def test_the_notebook_runs_from_top_to_bottom_and_keeps_no_output() -> None:
    notebook = json.loads((ROOT / "notebooks/quickstart.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in notebook["cells"])
    command = [sys.executable, "-W", "ignore", "-c", "\n".join(cells)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(list((ROOT / "docs/photographs").glob("*.jpg"))) + 6
