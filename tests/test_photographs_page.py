"""docs/photographs.md: from a folder of photographs, over captions that a person has corrected, to a model of them."""

import csv
import json
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from tests.browser import MISSING, chromium
from tests.imports import ROOT
from tests.pages import Command, typed
from tests.project import Project

SHIPPED = "src/captioning/models/shipped/photographs"
CORRECTED = "camera.jpg"  # which the split puts into training
WORDS = "a man behind a xylophone"
DROPPED = "rocket.jpg"


def review(home: Path, profile: Path) -> None:
    """Accept captions, correct one, drop one, and save the table into the folder."""
    with chromium(profile) as browser:
        browser.get((home / "review.html").as_uri())
        for figure in browser.find_elements(By.TAG_NAME, "figure"):
            if DROPPED in figure.text:
                figure.find_element(By.CSS_SELECTOR, "input[type=checkbox]").click()
            if CORRECTED in figure.text:
                area = figure.find_element(By.TAG_NAME, "textarea")
                area.clear()
                area.send_keys(WORDS)
        (home / "trip/captions.csv").write_text(browser.execute_script("return table()"), encoding="utf-8")


@pytest.mark.skipif(bool(MISSING), reason=MISSING or "")
def test_the_circle_for_ones_own_photographs(tmp_path: Path, home: Path) -> None:
    (home / "trip").mkdir()
    photographs = sorted((ROOT / "docs/photographs").glob("*.jpg"))
    for path in photographs:
        (home / "trip" / path.name).write_bytes(path.read_bytes())
    project = Project.create(tmp_path / "captioning", home)
    project.set("train.epochs=1", "decoders.transformer.width=auto")
    project.set("decoders.transformer.feed_forward=auto", "decoders.transformer.heads=4")
    project.run("git", "commit", "-qam", "settings as they are usual")

    def reviewed(_: Project, command: Command) -> None:
        if command.text.startswith("captioning review"):
            review(home, tmp_path / "profile")

    printed = list(typed(project, "photographs.md", after=reviewed).values())
    with (home / "captions.csv").open(newline="") as stream:
        made = {Path(row["file"]).name: row["caption"] for row in csv.DictReader(stream)}
    with (project.folder / "data/download/captions.csv").open(newline="") as stream:
        trained = {row["image_id"] + ".jpg": row["caption"] for row in csv.DictReader(stream)}
    assert trained == {name: text for name, text in made.items() if name != DROPPED} | {CORRECTED: WORDS}
    words = project.read("data/vocab/vocab.txt").split()[4:]
    known = set(project.read(f"{SHIPPED}/vocab.txt").split())
    assert "xylophone" in set(words) - known
    count = sum(word in known for word in words)
    assert f"train.start = {SHIPPED}: {count} of {len(words)} words are taken over" in printed[2]
    card = json.loads(project.read("data/train/model/model.json"))
    assert card["provenance"]["start"]["path"] == SHIPPED
    captioned = dict(line.split("\t") for line in printed[3].splitlines())
    assert [Path(name).name for name in captioned] == [path.name for path in photographs]
    assert set(" ".join(captioned.values()).split()) <= {*words, "<unk>"}
