"""The tiny pipeline gives what it gave at earlier commits and on other machines."""

import json

import pytest

from tests.golden_run import PATH, machine, read
from tests.project import Project

GOLDEN = json.loads(PATH.read_text(encoding="utf-8"))
REASON = "an intended change is entered with `python -m tests.golden_run`, and its reason told in the commit"


def test_data_and_stored_pixels_are_the_same_bytes_everywhere(project: Project) -> None:
    assert read(project.folder)["data"] == GOLDEN["data"], REASON


def test_losses_are_the_same_to_some_digits_on_every_machine(project: Project) -> None:
    losses = read(project.folder)["losses"]
    for name, golden in GOLDEN["machines"].items():
        assert losses == pytest.approx(golden["losses"], rel=2e-3), f"{name}: {REASON}"


def test_losses_weights_and_captions_are_the_same_bits_on_one_kind_of_cpu(project: Project) -> None:
    if machine() not in GOLDEN["machines"]:
        pytest.skip(f"{PATH.name} has no run on a {machine()}")
    found = read(project.folder)
    assert {"trained": found["trained"], "losses": found["losses"]} == GOLDEN["machines"][machine()], REASON
