"""The models that are part of the package: whole, small, with a card, and of use on photographs; and the wheel."""

import csv
import io
import itertools
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import captioning
from captioning.captioner import cards
from captioning.captioner.confidence import Evidence
from captioning.models import choice, inventory, shipped
from captioning.models.python import Model
from tests.imports import ROOT
from tests.test_unlikeness import drawn

PHOTOGRAPHS = sorted((ROOT / "docs/photographs").glob("*.jpg"))


@pytest.fixture(scope="module")
def model() -> Model:
    return captioning.load("photographs")


@pytest.mark.parametrize("name", shipped.names())
def test_a_shipped_model_is_whole_small_and_described(name: str) -> None:
    folder = shipped.folder(name)
    record = cards.read(folder)
    cards.check_files(folder, record)
    assert cards.CONFIDENCE in record.files
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 20e6
    text = (folder / "README.md").read_text()
    for part in ("## Scores", "## Confidence", "## Limits and biases", "## Terms", "Half precision"):
        assert part in text
    assert record.card.provenance["licence"].split(":")[0] in text
    written = (folder / cards.NAME).read_text() + text
    assert not [place for place in ("/home/", "/work/", "/root/", "/tmp/") if place in written]


def test_there_is_a_model_for_photographs() -> None:
    assert "photographs" in shipped.names()


def test_people_are_seen_as_people(model: Model) -> None:
    """People are seen as people; what they are like and do may be wrong."""
    said = {path.stem: model(path).text for path in PHOTOGRAPHS}
    assert len(set(said.values())) >= 5
    people = {"woman", "man", "person", "girl", "boy", "lady"}
    assert people & set(said["astronaut"].split()), said
    assert people & set(said["camera"].split()), said


def test_images_of_other_kinds_have_a_low_confidence(model: Model) -> None:
    page = Image.new("RGB", (600, 800), "white")
    for line in range(40, 760, 20):
        page.paste("black", (60, line, 540, line + 6))
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    others = [
        page,
        noise,
        *(Image.new("RGB", (300, 200), colour) for colour in ("black", "white", "red")),
        *drawn(40, 3),
    ]
    found = [caption.confidence for caption in model(others)]
    assert all(value is not None for value in found)
    assert sum(value < 0.1 for value in found) >= 0.9 * len(found), found  # type: ignore[operator]
    assert max(value for value in found if value is not None) < 0.3
    photographs = [caption.confidence for caption in model(PHOTOGRAPHS)]
    assert sum(value > 0.1 for value in photographs) >= len(PHOTOGRAPHS) / 2  # type: ignore[operator]


def test_abstaining_leaves_out_what_is_not_sure(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "red").save(tmp_path / "blank.png")
    (tmp_path / "camera.jpg").write_bytes((ROOT / "docs/photographs/camera.jpg").read_bytes())
    done = predict(tmp_path, "--abstain", "0.1", "--model", "photographs", "--format", "csv", ".")
    assert [row["file"] for row in csv.DictReader(io.StringIO(done.stdout))] == ["camera.jpg"]
    assert "blank.png: no caption, its confidence is 0.0" in done.stderr


def predict(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from captioning.cli import main; main()", "predict", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=check)


def test_a_folder_is_captioned_once_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    for path in PHOTOGRAPHS[:4]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    first = predict(tmp_path, ".", "--out", "c.jsonl", "--format", "jsonl", "--batch-size", "1")
    assert "photographs (shipped)" in first.stderr
    whole = (tmp_path / "c.jsonl").read_text()
    assert len(whole.splitlines()) == 4
    cut = whole.splitlines(keepends=True)
    (tmp_path / "c.jsonl").write_text("".join(cut[:2]) + cut[2][:20])  # killed while it wrote the third line
    again = predict(tmp_path, ".", "--out", "c.jsonl", "--format", "jsonl", "--batch-size", "1")
    assert "2 of 4 files have their captions already" in again.stderr
    assert (tmp_path / "c.jsonl").read_text() == whole
    predict(tmp_path, ".", "--write", "txt", "--write", "xmp", "--batch-size", "3")
    texts = {path.stem: path.read_text().strip() for path in tmp_path.glob("*.txt")}
    assert texts == {Path(row["file"]).stem: row["caption"] for row in map(json.loads, whole.splitlines())}
    assert len(list(tmp_path.glob("*.jpg.xmp"))) == 4
    (tmp_path / "notes.txt").write_text("of no image")
    (tmp_path / f"{PHOTOGRAPHS[0].stem}.txt").write_text("my own words")
    done = predict(tmp_path, ".", "--write", "txt", "--write", "xmp")
    assert "4 of 4 files have their captions already" in done.stderr
    assert ".: 2 of 14 files are not read, as no images: .jsonl, .txt" in done.stderr  # sidecars are not counted
    assert (tmp_path / f"{PHOTOGRAPHS[0].stem}.txt").read_text() == "my own words"
    predict(tmp_path, PHOTOGRAPHS[0].name, "--write", "txt", "--overwrite")
    assert (tmp_path / f"{PHOTOGRAPHS[0].stem}.txt").read_text() != "my own words"


def test_models_are_listed_and_the_usual_one_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [entry] = inventory.entries()
    assert entry.name == "photographs"
    for part in ("shipped: timm/tf_efficientnet_lite2 + transformer", "flickr8k: photographs", "MB", "non-commercial"):
        assert part in entry.description()
    assert choice.default().folder == shipped.folder("photographs")


def test_a_model_of_drawings_gives_way_to_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.test_ensembles import folder

    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text("")
    made = folder(tmp_path / choice.TRAINED)
    assert choice.default().folder == made
    monkeypatch.setitem(choice.CONTENT, "", "drawings")
    assert choice.default().folder == shipped.folder("photographs")


def test_confidence_and_words_belong_together(model: Model) -> None:
    """The first caption's confidence is that of its own log probability: nothing of the image is lost on the way."""
    [captioned] = model.batch([captioning.models.sources.read(PHOTOGRAPHS[0])], model.options())
    best, calibration = captioned.captions[0], model.captioners.members[0].calibration
    assert calibration is not None
    evidence = Evidence(best.log_probability, len(best.words), captioned.distance)
    assert best.confidence == calibration.confidence(evidence)


def test_the_wheel_has_all_that_a_person_needs(tmp_path: Path) -> None:
    """Built, unpacked, and used in an empty folder, without the repository."""
    build = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    wheel = zipfile.ZipFile(tmp_path / done.stdout.split()[-1])
    names = wheel.namelist()
    for needed in (
        "captioning/py.typed",
        "captioning/server/page/page.js",
        "captioning/models/shipped/photographs/README.md",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith(("tests", "stages", "benchmarks", "data"))]
    [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
    text = wheel.read(metadata).decode()
    for part in ("Name: captioning", "License-Expression: MIT", "Description-Content-Type: text/markdown"):
        assert part in text
    assert any(name.endswith("licenses/LICENSE") for name in names)
    [entry] = [name for name in names if name.endswith("entry_points.txt")]
    assert "captioning = captioning.cli:main" in wheel.read(entry).decode()
    assert Path(str(wheel.filename)).stat().st_size < 20e6
    library = tmp_path / "library"
    wheel.extractall(library)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "photo.jpg").write_bytes(PHOTOGRAPHS[0].read_bytes())
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import captioning;"
        "assert '/library/' in captioning.__file__, captioning.__file__;"
        "from captioning.cli import main; main()"
    )
    command = [sys.executable, "-c", code, str(library), "predict", "photo.jpg"]
    done = subprocess.run(command, cwd=empty, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("photo.jpg\t")
    assert "model photographs (shipped)" in done.stderr


def test_the_readme_shows_captions_as_the_model_makes_them(model: Model) -> None:
    """The first photographs by name, neither chosen nor improved."""
    table = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    rows = [line for line in table if not line.startswith("|---")]
    shown: dict[str, str] = {}
    for images, captions in itertools.pairwise(rows):
        names = re.findall(r"\(docs/photographs/([\w-]+\.jpg)\)", images)
        shown |= dict(zip(names, (cell.strip() for cell in captions.strip("|").split("|")), strict=False))
    assert list(shown) == [path.name for path in PHOTOGRAPHS[:6]]
    for name, text in shown.items():
        best = model(ROOT / "docs/photographs" / name)
        assert text == f"{best.text} ({best.confidence:.0%})".replace("%", " %")
