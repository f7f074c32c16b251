"""docs/own-images.md, typed from top to bottom by a newcomer with a folder of images."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from captioning.data.datasets.scenes import dataset as scenes
from tests.imports import ROOT
from tests.pages import Command, typed
from tests.project import Project

PAGE = ROOT / "docs" / "own-images.md"
WORDS = ("A dog sleeps.", "Two children run.", "The sea is blue.", "An old man sells oranges.")


def example() -> str:
    """The table in the page."""
    return re.findall(r"```csv\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)[0]


def holiday(folder: Path) -> None:
    """The images and captions of the page's table, and twelve more without a caption of their own in it."""
    table = example() + "".join(f"more/{index}.png,{WORDS[index % 4]}\n" for index in range(12))
    files = list(dict.fromkeys(line.partition(",")[0] for line in table.splitlines()[1:]))
    for file, scene in zip(files, scenes.compose(len(files), 3), strict=True):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        scenes.draw(scene, 64).save(folder / file)
    (folder / "captions.csv").write_text(table, encoding="utf-8")


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory, project: Project, home: Path) -> tuple[Project, dict[str, str]]:
    """The project after every command of the page, and what each of them printed."""
    holiday(home / "holiday")
    reader = Project(tmp_path_factory.mktemp("typed") / "captioning", home)
    shutil.copytree(project.folder, reader.folder, symlinks=True)
    reader.set("features.weights=none", "train.patience=1")  # ImageNet's need a network
    return reader, typed(reader, "own-images.md", before=correct_a_caption)


def correct_a_caption(project: Project, command: Command) -> None:
    """What the page asks for ahead of `dvc repro`."""
    if command.text == "dvc repro":
        path = project.folder / "pictures/captions.csv"
        path.write_text(path.read_text().replace("The sea is blue.", "The sea is calm."))


def test_every_command_of_the_page(printed: tuple[Project, dict[str, str]], home: Path) -> None:
    project, said = printed
    first, *_, tuned = said.values()
    assert len(first.splitlines()) == 16
    assert first.splitlines()[0].startswith(f"{home}/holiday/IMG_0100.jpg\t")
    draft = [json.loads(line) for line in (home / "draft.jsonl").read_text().splitlines()]
    assert [row["file"] for row in draft[:3]] == ["IMG_0100.jpg", "IMG_0101.jpg", "beach/IMG_0001.jpg"]
    assert "Running stage 'download'" in said["dvc repro"]
    assert "Running stage 'train'" in tuned
    table = pd.read_csv(project.folder / "data/download/captions.csv", dtype=str)
    assert table.loc[table["image_id"] == "more/2", "caption"].tolist() == ["The sea is calm."]
    assert table["image_id"].nunique() == 16
    assert "calm" in project.read("data/vocab/vocab.txt").split()
    assert "human" not in json.loads(project.read("data/evaluate/baselines.json"))  # most have one caption
    assert json.loads(project.read("data/weights/weights.json"))["origin"] == f"{home}/encoder.safetensors"


def test_evaluate_without_facts_has_no_truth(printed: tuple[Project, dict[str, str]]) -> None:
    project, _ = printed
    assert not (project.folder / "data/download/facts.jsonl").exists()
    assert json.loads(project.read("data/evaluate/truth.json")) == {}
    assert "true" not in project.read("data/evaluate/per_image.csv").splitlines()[0].split(",")
    for file in ("data/evaluate/metrics.json", "data/train/metrics.json"):
        assert "true_captions" not in project.read(file)


def test_git_sees_none_of_the_images(printed: tuple[Project, dict[str, str]]) -> None:
    assert "pictures" not in printed[0].run("git", "status", "--porcelain").stdout


def test_a_new_image_and_another_table_run_download_again(printed: tuple[Project, dict[str, str]], home: Path) -> None:
    project, _ = printed
    assert project.stages_to_run() == []
    extra = project.folder / "pictures/extra.png"
    shutil.copy(project.folder / "pictures/more/1.png", extra)
    assert project.stages_to_run()[0] == "download"
    extra.unlink()
    assert project.stages_to_run() == []
    assert project.stages_to_run(f"download.folder={home}/holiday")[:2] == ["check", "download"]


def test_a_queued_experiment_needs_the_absolute_path(printed: tuple[Project, dict[str, str]]) -> None:
    """Its copy has no images: it stops and says so, and never takes what another run left."""
    project, _ = printed
    done = project.run("dvc", "exp", "run", "--temp", check=False)
    assert done.returncode != 0
    assert "/pictures" in done.stderr
    folder = f"download.folder={project.folder}/pictures"
    project.run("dvc", "exp", "run", "--temp", "--name", "absolute", "-S", folder)
    assert "absolute" in project.run("dvc", "exp", "list", "--name-only").stdout


def test_a_fault_in_the_table_is_one_line(printed: tuple[Project, dict[str, str]]) -> None:
    project, _ = printed
    path = project.folder / "pictures/captions.csv"
    whole = path.read_text()
    path.write_text(whole.replace("beach/IMG_0002.jpg", "beach/IMG_0002.JPG"))
    done = project.run("dvc", "repro", check=False)
    path.write_text(whole)
    assert done.returncode != 0
    error = "error: pictures/captions.csv: 1 files are not in pictures: beach/IMG_0002.JPG (line 4); there is"
    assert error in done.stderr
    assert "Traceback" not in done.stderr
