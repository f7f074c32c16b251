"""The tiny pipeline gives what it gave at earlier commits and on other machines."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.golden_run import PATH, REPRODUCE, machine, read
from tests.project import Project

GOLDEN = json.loads(PATH.read_text(encoding="utf-8"))
REASON = "an intended change is entered with `python -m tests.golden_run`, and its reason told in the commit"


@pytest.fixture(scope="module")
def found(project: Project, home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("golden") / "project"
    shutil.copytree(project.folder, folder, symlinks=True)
    Project(folder, home).run(*REPRODUCE)
    return read(folder)


def test_data_and_stored_pixels_are_the_same_bytes_everywhere(found: dict[str, Any]) -> None:
    assert found["data"] == GOLDEN["data"], REASON


def test_losses_are_the_same_to_some_digits_on_every_machine(found: dict[str, Any]) -> None:
    for name, golden in GOLDEN["machines"].items():
        assert found["losses"] == pytest.approx(golden["losses"], rel=2e-3), f"{name}: {REASON}"


def test_losses_weights_and_captions_are_the_same_bits_on_one_kind_of_cpu(found: dict[str, Any]) -> None:
    if machine() not in GOLDEN["machines"]:
        pytest.skip(f"{PATH.name} has no run on a {machine()}")
    assert {"trained": found["trained"], "losses": found["losses"]} == GOLDEN["machines"][machine()], REASON
