"""The report in a real browser: what a person does with it, without a network and without an error in the console."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.ui import WebDriverWait

from captioning.experiments import report as reporting
from captioning.experiments.report import gallery
from tests import browser, reports

pytestmark = pytest.mark.skipif(browser.MISSING is not None, reason=str(browser.MISSING))
IMAGES = 1000
FRAMES = 60  # that one scrolls for
FILTERED, FRAME = 0.1, 0.05  # seconds of processor time that a filter and a frame may take, layout included
LONGEST = 2000  # milliseconds of the longest task while one scrolls, by the clock: the machine may have other work
FILTER = """
const [query, done] = arguments, search = document.querySelector("input[type=search]");
search.value = query;
search.dispatchEvent(new Event("input"));
requestAnimationFrame(() => setTimeout(done, 0));
"""
SCROLL = """
const [frames, done] = arguments;
let left = frames, longest = 0;
const note = (list) => { for (const task of list.getEntries()) longest = Math.max(longest, task.duration); };
new PerformanceObserver(note).observe({ type: "longtask" });
function step() {
  scrollBy(0, 4000);
  if (--left) requestAnimationFrame(() => setTimeout(step, 0));
  else setTimeout(() => done([document.querySelectorAll(".card").length, longest]), 0);
}
step();
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    reporting.write(path, reports.comparison(IMAGES, 2), "captioning report base other1 other2", None)
    return path


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def view(opened: webdriver.Chrome, report: Path) -> Iterator[webdriver.Chrome]:
    """The report, just opened; afterwards the console must be silent and the network untouched."""
    opened.get_log("performance")
    opened.get(report.as_uri())
    yield opened
    assert opened.get_log("browser") == []
    assert opened.title == "base, other1, other2 – captioning report"  # a caption that is a script did not run
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}


def cards(view: webdriver.Chrome) -> list[int]:
    """The images on the page, by their place in the data."""
    return [
        int(n) for n in view.execute_script("return [...document.querySelectorAll('.card')].map(c => c.dataset.index)")
    ]


def count(view: webdriver.Chrome) -> str:
    return view.find_element(By.ID, "count").text


def images(view: webdriver.Chrome) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = view.execute_script(
        "return DATA.images.map(({captions, references, scores}) => ({captions, references, scores}))"
    )
    return found


def focused(view: webdriver.Chrome) -> int:
    return int(view.execute_script("return document.activeElement.closest('.card')?.dataset.index ?? -1"))


def test_it_opens_with_the_largest_disagreement_first(view: webdriver.Chrome) -> None:
    assert count(view) == "1,000 of 1,000 images"
    apart = [max(image["scores"][0]) - min(image["scores"][0]) for image in images(view)]
    shown = [apart[k] for k in cards(view)]
    assert shown == sorted(apart, reverse=True)[: len(shown)]
    assert len(view.find_elements(By.CSS_SELECTOR, ".chart svg")) == 2


def test_words_filter_images(view: webdriver.Chrome) -> None:
    search = view.find_element(By.CSS_SELECTOR, "input[type=search]")
    search.send_keys("Water bird")
    said = [
        k
        for k, image in enumerate(images(view))
        if any("bird" in text and "water" in text for text in image["captions"])
    ]
    assert count(view) == f"{len(said)} of 1,000 images"
    assert set(cards(view)) <= set(said)
    search.clear()
    search.send_keys("zebra")
    assert cards(view) == [0]
    Select(view.find_element(By.ID, "tool-in")).select_by_value("captions")
    assert count(view) == "No image matches. Try fewer or shorter words."


def test_an_experiment_can_be_shown_alone_and_sorted_by_score(view: webdriver.Chrome) -> None:
    view.find_element(By.XPATH, "//fieldset//label[contains(., 'other2')]").click()
    Select(view.find_element(By.ID, "tool-sort-by")).select_by_value("high")
    Select(view.find_element(By.ID, "tool-score")).select_by_visible_text("ROUGE-L")
    scores = [image["scores"][1][2] for image in images(view)]
    shown = [scores[k] for k in cards(view)]
    assert shown == sorted(scores, reverse=True)[: len(shown)]
    first = view.find_element(By.CSS_SELECTOR, ".card")
    assert "other2" in first.text
    assert "base" not in first.text


def test_the_keyboard_is_enough(view: webdriver.Chrome) -> None:
    body = view.find_element(By.TAG_NAME, "body")
    body.send_keys("/")
    assert view.switch_to.active_element.get_attribute("type") == "search"
    view.switch_to.active_element.send_keys("dog", Keys.ESCAPE)
    order = cards(view)
    view.execute_script("document.querySelector('.card button').focus()")
    view.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert focused(view) == order[1]
    view.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    below = focused(view)
    assert below in order[3:]
    view.switch_to.active_element.send_keys(Keys.ARROW_UP)
    assert focused(view) == order[1]
    view.switch_to.active_element.send_keys(Keys.ENTER)
    detail = view.find_element(By.ID, "detail")
    assert detail.is_displayed()
    view.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert detail.text.startswith("3 of ")
    view.switch_to.active_element.send_keys(Keys.ESCAPE)
    WebDriverWait(view, 20).until(lambda v: focused(v) == order[2])
    assert not detail.is_displayed()


def test_a_chart_is_read_with_arrow_keys(view: webdriver.Chrome) -> None:
    chart = view.find_element(By.CSS_SELECTOR, ".chart svg")
    assert "Caption loss, by epoch. base, training: 3.5 to 1.5" in chart.get_attribute("aria-label")
    view.execute_script("arguments[0].focus()", chart)
    view.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    view.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    tip = view.find_element(By.CSS_SELECTOR, ".chart .tip")
    assert tip.text.splitlines()[:3] == ["Epoch 2", "base, training: 2.25", "base, validation: 2.25"]


def test_attention_is_shown_where_there_is_any(view: webdriver.Chrome) -> None:
    view.find_element(By.XPATH, "//label[contains(., 'with attention maps')]").click()
    assert cards(view) == [2]
    named = view.find_elements(By.CSS_SELECTOR, ".card .objects")
    assert [line.text for line in named] == ["Objects that it read: 2 × dog, <b>"]  # as text, and of base alone
    view.find_element(By.CSS_SELECTOR, ".card button").click()
    figures = view.find_elements(By.CSS_SELECTOR, "#detail figure")
    assert [figure.find_element(By.TAG_NAME, "figcaption").text for figure in figures] == [
        "The objects that base read",
        "Where base looked, word by word",
    ]
    names = view.find_elements(By.CSS_SELECTOR, "#detail .boxes text")
    assert [name.text for name in names] == ["dog", "<b>", "dog"]
    image, frame = (view.find_element(By.CSS_SELECTOR, f"#detail .boxes {name}").rect for name in ("img", "rect"))
    assert frame["width"] / image["width"] == pytest.approx(160 / 400, abs=0.02)  # of the box, in an image of 400 × 300
    assert (frame["y"] - image["y"]) / image["height"] == pytest.approx(30 / 300, abs=0.02)


def brightness(view: webdriver.Chrome) -> float:
    colour = view.execute_script("return getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour[4:-1].split(",")) / 3


def test_dark_and_light_follow_the_system_and_the_button(view: webdriver.Chrome) -> None:
    def prefer(scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        view.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    prefer("dark")
    WebDriverWait(view, 20).until(lambda v: brightness(v) < 60)
    prefer("light")
    WebDriverWait(view, 20).until(lambda v: brightness(v) > 200)
    view.find_element(By.ID, "theme").click()
    assert brightness(view) < 60


def test_a_phone_shows_cider_without_scrolling_sideways(view: webdriver.Chrome) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    view.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        rows = view.find_elements(By.CSS_SELECTOR, "#scores .cards-if-narrow tbody tr")
        assert len(rows) == 4  # three experiments, and one caption for all
        for row in rows:
            cells = [cell for cell in row.find_elements(By.TAG_NAME, "td") if cell.is_displayed()]
            assert all(cell.rect["x"] >= 0 and cell.rect["x"] + cell.rect["width"] <= 390 for cell in cells)
            first = min(cells, key=lambda cell: (cell.rect["y"], cell.rect["x"]))
            assert first.get_attribute("data-name") == "CIDEr"
    finally:
        view.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_one_experiment_opens_with_a_random_sample(opened: webdriver.Chrome, tmp_path: Path) -> None:
    path = tmp_path / "one.html"
    reporting.write(path, reports.comparison(100, 0), "captioning report base", None)
    opened.get(path.as_uri())
    assert Select(opened.find_element(By.ID, "tool-sort-by")).first_selected_option.text == "random sample"
    assert [k + 1 for k in cards(opened)[:20]] == gallery.shuffled(range(1, 101), 0)[:20]


def test_a_phone_needs_no_sideways_scrolling(view: webdriver.Chrome) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    view.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        assert view.execute_script("return document.documentElement.scrollWidth") == 390
        view.find_element(By.CSS_SELECTOR, ".card button").click()
        assert (
            view.execute_script("const d = document.getElementById('detail'); return d.scrollWidth - d.clientWidth")
            == 0
        )
    finally:
        view.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def seconds(view: webdriver.Chrome) -> float:
    """The processor time that the page has taken on its main thread, whatever else the machine does."""
    metrics = view.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(float(metric["value"]) for metric in metrics if metric["name"] == "TaskDuration")


def test_a_thousand_images_are_smooth(view: webdriver.Chrome) -> None:
    view.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    before = seconds(view)
    queries = ["dog", "a", "", "bird water", "grass", "", "cat", ""]
    for query in queries:
        view.execute_async_script(FILTER, query)
    assert 0 < (seconds(view) - before) / len(queries) < FILTERED
    before = seconds(view)
    shown, longest = view.execute_async_script(SCROLL, FRAMES)
    assert shown > 48
    assert (seconds(view) - before) / FRAMES < FRAME
    assert longest < LONGEST
