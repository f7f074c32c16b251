"""The page of `captioning serve` in a browser: files, paste, options, faults, a telephone's width, dark, keyboard."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

import captioning
from captioning.models.python import Model
from captioning.server.app import create
from captioning.server.limits import Limits
from captioning.server.running import _listening
from tests.browser import MISSING, chromium
from tests.test_ensembles import folder
from tests.test_predict_objects import folder as folder_of_objects
from tests.test_predict_objects import with_detector
from tests.test_server import png

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
PAINTED = "const c = arguments[0]; return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(Boolean)"
ORANGE = """
const c = arguments[0], data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
return data.filter((value, place) => place % 4 == 0 && value > 200 && data[place + 2] < 120).length;
"""
PASTE = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "pasted.png", {type: "image/png"}));
document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = folder(tmp_path_factory.mktemp("model") / "tiny", "attention-soft", encoder="resnet18", side=64)
    with serving(captioning.load(place), place) as found:
        yield found


@contextmanager
def serving(model: Model, place: Path) -> Iterator[str]:
    """The address of a server of this model, in a thread."""
    app = create(model, "tiny", place, Limits(), ("127.0.0.1",))
    listener = _listening("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(browser: webdriver.Chrome, address: str) -> webdriver.Chrome:
    browser.set_window_size(1280, 900)
    browser.get(address)
    return browser


def one(page: webdriver.Chrome, selector: str) -> Any:
    return page.find_element(By.CSS_SELECTOR, selector)


def results(page: webdriver.Chrome, count: int) -> list[Any]:
    """The results, once there are so many."""
    return WebDriverWait(page, 30).until(
        lambda _: found if len(found := page.find_elements(By.CSS_SELECTOR, ".result")) == count else False
    )


def status(page: webdriver.Chrome, text: str) -> None:
    """Wait until the status line has the text."""
    WebDriverWait(page, 30).until(lambda _: text in one(page, "#status").text)


def photo(folder: Path, name: str, seed: int) -> str:
    (folder / name).write_bytes(png(seed))
    return str(folder / name)


def test_several_files_are_captioned_and_words_show_where_the_model_looked(
    page: webdriver.Chrome, tmp_path: Path
) -> None:
    one(page, "#files").send_keys("\n".join([photo(tmp_path, "a.png", 1), photo(tmp_path, "b.png", 2)]))
    last, first = results(page, 2)
    assert [item.find_element(By.CSS_SELECTOR, ".file").text for item in (first, last)] == ["a.png", "b.png"]
    caption = first.find_element(By.CSS_SELECTOR, ".caption").text
    assert caption == first.find_element(By.TAG_NAME, "img").get_attribute("alt")
    assert len(first.find_elements(By.CSS_SELECTOR, ".others li")) == 2
    words = first.find_elements(By.CSS_SELECTOR, ".word")
    assert [word.text for word in words] == caption.split()
    canvas = first.find_element(By.TAG_NAME, "canvas")
    assert not page.execute_script(PAINTED, canvas)
    words[0].click()
    assert page.execute_script(PAINTED, canvas)
    WebDriverWait(page, 30).until(lambda _: one(page, "#status").text == "")


def test_an_image_can_be_pasted_and_must_have_words(page: webdriver.Chrome) -> None:
    one(page, "summary").click()
    one(page, "#must").send_keys("w3, w4")
    one(page, "#count").send_keys("1")
    page.execute_script(PASTE, base64.b64encode(png()).decode())
    [found] = results(page, 1)
    caption = found.find_element(By.CSS_SELECTOR, ".caption").text.split()
    assert {"w3", "w4"} <= set(caption)
    assert not found.find_elements(By.CSS_SELECTOR, ".others li")


def test_faults_are_said_on_the_page(page: webdriver.Chrome, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    one(page, "#files").send_keys(str(tmp_path / "bad.png"))
    status(page, "bad.png: image: not an image that can be decoded")
    (tmp_path / "text.txt").write_text("x")
    one(page, "#files").send_keys(str(tmp_path / "text.txt"))
    status(page, "That is no image.")
    one(page, "summary").click()
    one(page, "#must").send_keys("zebra")
    one(page, "#files").send_keys(photo(tmp_path, "a.png", 1))
    status(page, "no word 'zebra'")
    assert not page.find_elements(By.CSS_SELECTOR, ".result")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_cut_off_on_any_width(page: webdriver.Chrome, tmp_path: Path, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    one(page, "#files").send_keys(photo(tmp_path, f"{'long-' * 20}name.png", 1))
    results(page, 1)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def luminance(page: webdriver.Chrome, name: str) -> float:
    code = "return getComputedStyle(document.body)[arguments[0]].match(/[\\d.]+/g).map(Number)"
    red, green, blue = page.execute_script(code, name)[:3]
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_readers_scheme(page: webdriver.Chrome, scheme: str) -> None:
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    paper, ink = luminance(page, "backgroundColor"), luminance(page, "color")
    assert (paper < 0.2 < 0.7 < ink) if scheme == "dark" else (ink < 0.2 < 0.7 < paper)


def test_all_is_reached_by_keyboard(page: webdriver.Chrome, tmp_path: Path) -> None:
    one(page, "#files").send_keys(photo(tmp_path, "a.png", 1))
    results(page, 1)
    page.execute_script("document.activeElement.blur()")
    reached = []
    for _ in range(6):
        ActionChains(page).send_keys(Keys.TAB).perform()
        active = page.switch_to.active_element
        reached.append(active.get_attribute("id") or active.get_attribute("class") or active.tag_name)
    assert reached[:3] == ["files", "camera", "summary"]
    assert "word" in reached


def test_the_page_asks_nobody_else_and_reports_no_fault(page: webdriver.Chrome, address: str) -> None:
    page.get_log("browser")
    page.get(address)
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert sent
    assert [url for url in sent if not url.startswith((address, "data:", "blob:", "chrome:"))] == []
    assert page.get_log("browser") == []


def test_attention_over_objects_is_drawn_as_frames(browser: webdriver.Chrome, tmp_path: Path) -> None:
    place = folder_of_objects(tmp_path / "oscar", "oscar")
    with serving(with_detector(place), place) as address:
        browser.get(address)
        one(browser, "#files").send_keys(photo(tmp_path, "a.png", 1))
        [item] = results(browser, 1)
        item.find_element(By.CSS_SELECTOR, ".word").click()
        canvas = item.find_element(By.TAG_NAME, "canvas")
        assert browser.execute_script(ORANGE, canvas) > 100
