"""`captioning review`: the page in a browser, and its table as a data set."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from typer.testing import CliRunner

from captioning.cli.app import app
from tests.browser import MISSING, chromium

NAMES = ("a.png", "sub/b #1 ä.png", "sub/c.png")
SAID = ('a dog, "Rex", & <b>cat</b>', "two birds", "a red ball")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, name in enumerate(NAMES):
        path = tmp_path / "trip" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (80 * number, 40, 90)).save(path)
    with (tmp_path / "captions.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "caption", "confidence", "score", "log_probability"])
        table.writerows([f"trip/{name}", text, "0.5", "-1", "-2"] for name, text in zip(NAMES, SAID, strict=True))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if MISSING:
        pytest.skip(MISSING)
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def test_captions_are_accepted_corrected_and_dropped(folder: Path, browser: webdriver.Chrome) -> None:
    done = CliRunner().invoke(app, ["review", "captions.csv", "--out", "out/review.html"])
    assert done.exit_code == 0, done.output
    assert f"save its captions.csv in {folder / 'trip'}" in done.stdout
    browser.get((folder / "out/review.html").as_uri())
    shown = "return [...document.images].map((image) => image.complete && image.naturalWidth)"
    browser.execute_script("for (const image of document.images) image.loading = 'eager'")
    assert browser.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.images].map((i) => i.decode())).then(() => done(true), () => done(false))"
    )
    assert browser.execute_script(shown) == [40, 40, 40]
    named = [item.text for item in browser.find_elements(By.CSS_SELECTOR, ".file")]
    assert named == [f"{name}, confidence 50 %" for name in ("a.png", "sub/b #1 ä.png", "sub/c.png")]
    areas = browser.find_elements(By.TAG_NAME, "textarea")
    assert [area.get_attribute("value") for area in areas] == list(SAID)
    areas[1].clear()
    areas[1].send_keys('two "blue" birds')
    browser.find_elements(By.CSS_SELECTOR, "input[type=checkbox]")[2].click()
    assert browser.find_element(By.ID, "count").text == "2 kept, 1 changed"
    rows = list(csv.DictReader(io.StringIO(browser.execute_script("return table()"))))
    assert rows == [
        {"file": "a.png", "caption": SAID[0]},
        {"file": "sub/b #1 ä.png", "caption": 'two "blue" birds'},
    ]


def test_faults_are_one_line(folder: Path) -> None:
    def fault(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["review", *arguments])
        assert done.exit_code
        return str(done.exception)

    assert "no such file" in fault("nothing.csv")
    (folder / "trip/a.png").unlink()
    assert "captions.csv, line 2: trip/a.png: no such file; start where" in fault("captions.csv")
    (folder / "empty.jsonl").write_text("")
    assert "no caption in it" in fault("empty.jsonl")
    assert "--out" in fault("captions.csv", "--out", "trip")
