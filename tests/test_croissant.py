"""Croissant metadata of `scenes`: valid for MLCommons' own reader, which reads images and captions by it."""

import io
import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from captioning.data.datasets.scenes import dataset as scenes
from captioning.system.sealed import write_table

pytestmark = pytest.mark.filterwarnings("ignore")  # of the reader and what it imports


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pd.DataFrame]:
    """The captions of drawn scenes, as `download` leaves them in a project, which is then the working folder."""
    project = tmp_path_factory.mktemp("project")
    (project / "dvc.yaml").touch()
    data = project / "data/download"
    table = scenes.write(data, train=4, val=1, test=2, size=32, seed=3)
    write_table(data / "captions.csv", table.to_csv(index=False, lineterminator="\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("CROISSANT_CACHE", str(project / "cache"))  # read when the reader is imported
        yield table


@pytest.fixture(scope="module")
def dataset(table: pd.DataFrame) -> Any:  # noqa: ARG001
    """What the reader makes of the file that the command writes."""
    assert captioning().stdout == "croissant.json\n"
    with warnings.catch_warnings(action="ignore"):
        import mlcroissant

        return mlcroissant.Dataset("croissant.json")


def captioning() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from captioning.cli import main; main()", "croissant"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def records(dataset: Any, name: str) -> list[dict[str, Any]]:
    """Its records, with text instead of bytes."""
    return [
        {key.partition("/")[2]: value.decode() if isinstance(value, bytes) else value for key, value in row.items()}
        for row in dataset.records(name)
    ]


def test_it_is_valid_and_lacks_only_the_day_of_publication(dataset: Any) -> None:
    assert dataset.metadata.issues.errors == set()
    [warning] = dataset.metadata.issues.warnings
    assert "datePublished" in warning
    assert "7 images (4 train, 1 val, 2 test), with 35 English captions" in dataset.metadata.description


def test_captions_are_read_with_their_splits_and_images(dataset: Any, table: pd.DataFrame) -> None:
    read = records(dataset, "captions")
    assert [row["caption"] for row in read] == table["caption"].tolist()
    assert [row["split"] for row in read] == table["split"].tolist()
    assert [row["image"] for row in read] == [Path(file).name for file in table["file"]]


def test_images_are_read_as_they_are_in_the_archive(dataset: Any) -> None:
    read = {row["name"]: row["content"] for row in records(dataset, "images")}
    with zipfile.ZipFile("data/download/scenes.zip") as archive:
        drawn = {Path(name).name: Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()}
    assert {name: image.tobytes() for name, image in read.items()} == {
        name: image.convert("RGB").tobytes() for name, image in drawn.items()
    }


def test_facts_are_read(dataset: Any) -> None:
    facts = [json.loads(line) for line in Path("data/download/facts.jsonl").read_text().splitlines()]
    assert [row["place"] for row in records(dataset, "facts")] == [fact["place"] for fact in facts]


def test_damaged_data_is_refused_by_the_reader(dataset: Any) -> None:
    path = Path("data/download/facts.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole + b"\n")
    try:
        with pytest.raises(Exception, match=r"facts\.jsonl") as fault:
            records(dataset, "facts")
    finally:
        path.write_bytes(whole)
    assert "hash" in str(fault.value.__cause__).lower()


def test_another_data_set_is_refused_in_one_line(table: pd.DataFrame) -> None:  # noqa: ARG001
    kept = Path("data/download/scenes.zip").rename("kept.zip")
    try:
        done = captioning()
    finally:
        kept.rename("data/download/scenes.zip")
    assert done.returncode == 1
    assert done.stderr.startswith("error: data/download has no scenes.zip: Croissant is for `scenes`")
    assert done.stderr.count("\n") == 1
