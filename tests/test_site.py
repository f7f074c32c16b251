"""The documentation as a site: built strictly, whole, and in a browser without a request to anywhere else."""

import json
import subprocess
import sys
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests import browser
from tests.imports import ROOT
from website import sources
from website.__main__ import build

COMPARED = ("h1", "h2", "h3", "li", "table", "td", "pre", "img")
WIDE = """
const scrolls = e => { for (let p = e.parentElement; p; p = p.parentElement)
  if (getComputedStyle(p).overflowX != "visible") return true; };
return [...document.querySelectorAll("article *")]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !scrolls(e)).map(e => e.outerHTML.slice(0, 200));
"""
SEARCH = "return document.activeElement.shadowRoot?.activeElement != null"  # it is a tree of its own
FOUND = "return [...document.activeElement.shadowRoot.querySelectorAll('a')].map(a => a.href)"


class Elements(HTMLParser):
    """How many elements of each kind are in a page's article, or in a whole text that has none."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.feed(text.partition("<article")[2].partition("</article>")[0] or text)

    def handle_starttag(self, tag: str, attributes: object) -> None:  # noqa: ARG002
        self.seen[tag] += 1


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    subprocess.run([sys.executable, "-m", "website", str(folder)], cwd=ROOT, check=True, capture_output=True)
    return folder


def listed(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        for place in entry.values():
            yield from [place] if isinstance(place, str) else listed(place)


def test_every_page_is_in_the_navigation() -> None:
    settings = tomllib.loads((ROOT / "website/zensical.toml").read_text(encoding="utf-8"))
    assert sorted(listed(settings["project"]["nav"])) == sorted(sources.pages().values())


def test_pages_have_the_parts_that_they_have_in_the_repository(site: Path) -> None:
    """Zensical reads another Markdown than GitHub: a paragraph in a list is indented by four spaces, for example."""
    markdown = MarkdownIt("commonmark").enable("table")
    for path, name in sources.pages().items():
        here = Elements(markdown.render((ROOT / path).read_text(encoding="utf-8"))).seen
        there = Elements((site / name).with_suffix(".html").read_text(encoding="utf-8")).seen
        assert {tag: there[tag] for tag in COMPARED} == {tag: here[tag] for tag in COMPARED}, path


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("models.md#nothing", "anchor does not exist"),
        ("nowhere.md", "docs/nowhere.md"),
        ("../src/nothing.py", "src/nothing.py"),
    ],
)
def test_a_broken_link_stops_the_build(
    link: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "repository"
    (root / "docs").mkdir(parents=True)
    for path in [*ROOT.iterdir(), *(ROOT / "docs").iterdir()]:
        if path.name not in ("docs", "report.md"):
            (root / path.relative_to(ROOT)).symlink_to(path)
    (root / "docs/report.md").write_text(f"# Report\n\nIt is [there]({link}).\n", encoding="utf-8")
    monkeypatch.setattr(sources, "ROOT", root)
    with pytest.raises((subprocess.CalledProcessError, FileNotFoundError)) as fault:
        build(tmp_path / "site")
    assert said in str(fault.value) + "".join(capfd.readouterr())
    assert not (tmp_path / "site").exists()


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *values: object) -> None:
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if browser.MISSING:
        pytest.skip(browser.MISSING)
    with browser.chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.get("about:blank")
        yield driver


@pytest.fixture
def view(opened: webdriver.Chrome, address: str) -> Iterator[webdriver.Chrome]:
    """A browser that is told, at the end of the test, to list what it asked for: nothing from elsewhere."""
    opened.get_log("performance")
    yield opened
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert [url for url in asked if not url.startswith((address, "data:", "blob:", "chrome:"))] == []


def test_pages_fit_a_telephone(view: webdriver.Chrome, address: str) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    view.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    for name in sorted(sources.pages().values()):
        view.get(address + name.replace(".md", ".html"))
        assert view.execute_script("return document.documentElement.scrollWidth") == 390, name
        assert view.execute_script(WIDE) == [], name
    view.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_search_finds_a_section(view: webdriver.Chrome, address: str) -> None:
    view.get(address + "index.html")
    wait = WebDriverWait(view, 20)
    wait.until(lambda view: view.find_element(By.CSS_SELECTOR, "button.md-search__button")).click()
    wait.until(lambda view: view.execute_script(SEARCH))
    view.switch_to.active_element.send_keys("METEOR")
    found = wait.until(lambda view: view.execute_script(FOUND))
    assert f"{address}glossary.html?h=METEOR#scores" in found


def test_colours_follow_the_system_and_the_switch(view: webdriver.Chrome, address: str) -> None:
    scheme = "return document.body.getAttribute('data-md-color-scheme')"
    for value, expected in (("dark", "slate"), ("light", "default")):
        feature = {"features": [{"name": "prefers-color-scheme", "value": value}]}
        view.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
        view.get(address + "index.html")
        assert WebDriverWait(view, 20).until(lambda view: view.execute_script(scheme)) == expected
