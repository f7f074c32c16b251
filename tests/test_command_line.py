"""The page on settings on the command line: its commands queue what it says, and DVC answers what it says."""

import re
from typing import Any

import pytest
import yaml

from captioning.settings.resolve import load
from captioning.system.errors import UserError
from tests.imports import ROOT
from tests.pages import Command, typed
from tests.project import Project

PAGE = ROOT / "docs/command-line.md"
QUEUED: dict[str, tuple[str, Any]] = {
    "whole": ("split.limit", None),
    "brackets": ("download.source", "/data/Photos (2023)"),
    "comma": ("download.source", "/data/a,b"),
    "trackers": ("train.trackers", ["mlflow", "tensorboard"]),
    "rate": ("train.optimizer.lr", 1e-4),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """In which no stage is run."""
    return Project.create(tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("home"))


def tasks(project: Project) -> dict[str, str]:
    """Names and revisions of the queued experiments."""
    printed = project.run("dvc", "queue", "status").stdout
    return {name: revision for revision, name in re.findall(r"^([0-9a-f]{7,})\s+(\S+)", printed, re.MULTILINE)}


def value(project: Project, revision: str, key: str) -> Any:
    found = yaml.safe_load(project.run("git", "show", f"{revision}:params.yaml").stdout)
    for part in key.split("."):
        found = found[part]
    return float(found) if key.endswith(".lr") else found


def test_every_command_of_the_page_queues_what_it_says(project: Project) -> None:
    seen: dict[str, str] = {}

    def note(here: Project, command: Command) -> None:
        if command.text == "dvc queue remove --queued":
            seen.update(tasks(here))

    typed(project, "command-line.md", before=note)
    assert QUEUED.keys() <= seen.keys()
    assert {name: value(project, seen[name], key) for name, (key, _) in QUEUED.items()} == {
        name: expected for name, (_, expected) in QUEUED.items()
    }
    swept = {value(project, revision, "encoder") for name, revision in seen.items() if name not in QUEUED}
    assert swept == {"resnet18", "resnet50"}
    assert tasks(project) == {}


def answers() -> list[tuple[str, str]]:
    """What is typed and the answer, where DVC refuses it, in the page's table."""
    rows = re.findall(r"^\| `'?([^`']+?)'?`[^|]*\| `([^`]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == 6
    return rows


@pytest.mark.parametrize(("argument", "answer"), answers())
def test_what_dvc_answers_is_what_the_page_says(project: Project, argument: str, answer: str) -> None:
    refused = project.run("dvc", "exp", "run", "-S", argument, check=False)
    assert refused.returncode
    assert answer in refused.stderr
    changed = argument.endswith("=")  # an empty text is written before DVC reads the pipeline
    assert project.run("git", "status", "--porcelain").stdout == " M params.yaml\n" * changed
    project.run("git", "restore", "params.yaml")


FOLDERS = ("train.start", "download.folder", "evaluate.ensemble")  # that dvc.yaml names as dependencies


def test_a_folder_that_is_null_is_answered_by_the_check(project: Project) -> None:
    """DVC reads these settings before any stage runs; a null must not end it in an `unexpected error`."""
    options = (part for key in FOLDERS for part in ("-S", f"{key}=null"))
    refused = project.run("dvc", "exp", "run", *options, check=False)
    project.run("git", "restore", "params.yaml")
    assert refused.returncode
    assert "unexpected error" not in refused.stderr
    said = [line for line in refused.stderr.splitlines() if "is empty; write " in line]
    assert [key for key in FOLDERS for line in said if f": {key} is empty; write " in line] == list(FOLDERS)
    assert all(len(line) <= 300 for line in said)


@pytest.mark.parametrize("key", FOLDERS)
def test_a_folder_that_is_an_empty_text_is_no_unexpected_error(project: Project, key: str) -> None:
    refused = project.run("dvc", "exp", "run", "-S", f"{key}=", check=False)
    project.run("git", "restore", "params.yaml")
    last = refused.stderr.splitlines()[-1]
    assert last.startswith("ERROR: Same item(s) are defined as both a dependency and an output in stage: ")


@pytest.mark.parametrize("key", ["split.limit", "train.augment.image_size"])
def test_an_empty_text_is_answered_with_null(key: str) -> None:
    """`-S split.limit=` writes one."""
    with pytest.raises(UserError, match=rf"{key} = '': an empty text; for an empty value write null \(`-S {key}=null`"):
        load(ROOT / "params.yaml", {key: ""})


def test_an_empty_text_is_answered_as_any_where_no_value_is_no_value() -> None:
    with pytest.raises(UserError, match=r"vocab.min_count = '': input should be a valid integer"):
        load(ROOT / "params.yaml", {"vocab.min_count": ""})
