"""`captioning serve`: its interface, the two protocols of photo libraries, its limits, its queue, and its end."""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

import captioning
from benchmarks import serving
from captioning.models.python import Model
from captioning.models.sources import read
from captioning.server.app import create
from captioning.server.batching import Batcher, FullError
from captioning.server.limits import Limits
from tests.noise import noise
from tests.test_ensembles import folder
from tests.test_predict_objects import OBJECTS, with_detector
from tests.test_predict_objects import folder as folder_of_objects

JSON = {"content-type": "application/json"}
USUAL = Limits()
HOSTS = ("testserver", "127.0.0.1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("model") / "tiny", "attention-soft", encoder="resnet18", side=64)


@pytest.fixture(scope="module")
def model(place: Path) -> Model:
    return captioning.load(place)


def client(model: Model, place: Path, limits: Limits = USUAL) -> TestClient:
    return TestClient(create(model, "tiny", place, limits, HOSTS), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def served(model: Model, place: Path) -> Iterator[TestClient]:
    with client(model, place) as served:
        yield served


def png(seed: int = 0, size: tuple[int, int] = (80, 60)) -> bytes:
    stream = io.BytesIO()
    noise(size, 60 + seed, seed).save(stream, "PNG")
    return stream.getvalue()


PNG = png()
TEXT = base64.b64encode(PNG).decode()


def test_an_image_sent_as_a_form_or_as_json_has_the_caption_of_the_python_interface(
    served: TestClient, model: Model
) -> None:
    expected = model(PNG, n_best=2)
    form = served.post("/v1/captions", files={"images": ("a.png", PNG)}, data={"n_best": "2"})
    sent = served.post("/v1/captions", json={"images": [TEXT], "n_best": 2})
    assert form.status_code == sent.status_code == 200
    assert form.json() == sent.json()
    [entry] = form.json()["images"]
    assert entry["caption"] == expected[0].text
    assert entry["captions"] == [caption.record() for caption in expected]
    assert form.json()["model"] == "tiny"


def test_several_images_options_and_attention(served: TestClient, model: Model) -> None:
    word = model.captioners.vocabulary.words[9]
    files = [("images", ("a", png(1))), ("images", ("b", png(2)))]
    found = served.post("/v1/captions", files=files, data={"must": [word], "attention": "true"}).json()["images"]
    assert len(found) == 2
    for entry in found:
        assert word in entry["caption"].split()
        assert [seen["word"] for seen in entry["attention"]][:-1] == entry["caption"].split()
        assert all(abs(sum(map(sum, seen["weights"])) - 1) < 0.01 for seen in entry["attention"])
        assert entry["box"] == pytest.approx([0, 0, 1, 1], abs=0.2)


def test_attention_over_objects_says_where_they_are(tmp_path: Path) -> None:
    place = folder_of_objects(tmp_path / "oscar", "oscar")
    with client(with_detector(place), place) as served:
        files = {"images": ("a", png(1, (64, 48)))}
        [entry] = served.post("/v1/captions", files=files, data={"attention": "true"}).json()["images"]
    assert [len(seen["weights"]) for seen in entry["attention"]] == [1 + len(OBJECTS)] * len(entry["attention"])
    left, top, right, bottom = OBJECTS[0].box
    assert entry["boxes"][:2] == [[0, 0, 1, 1], pytest.approx([left / 64, top / 48, right / 64, bottom / 48], abs=1e-4)]
    assert entry["box"] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"{", JSON, 400, "Invalid JSON"),
        (b"[]", JSON, 400, "object"),
        (b"{}", JSON, 400, "images: Field required"),
        (json.dumps({"images": []}).encode(), JSON, 400, "images"),
        (json.dumps({"images": ["!!"]}).encode(), JSON, 400, "not valid base64"),
        (json.dumps({"images": ["https://x.org/a.jpg"]}).encode(), JSON, 400, "addresses are not fetched"),
        (json.dumps({"images": [base64.b64encode(b"no image").decode()]}).encode(), JSON, 400, "not an image"),
        (json.dumps({"images": [TEXT], "n_best": 99}).encode(), JSON, 400, "n_best"),
        (json.dumps({"images": [TEXT], "beams": 9}).encode(), JSON, 400, "beams"),
        (json.dumps({"images": [TEXT], "must": ["zebra"]}).encode(), JSON, 400, "no word 'zebra'"),
        (json.dumps({"images": [TEXT] * 33}).encode(), JSON, 400, "33 images in a request; at most 32"),
        (b"[" * 50_000, JSON, 400, ""),
        (b"x", {"content-type": "text/plain"}, 415, "multipart/form-data"),
        (b"x", {"content-type": "multipart/form-data"}, 400, ""),
        (b"x", {"content-type": "multipart/form-data; boundary=b"}, 400, ""),
        (b"--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}, 400, "no image"),
    ],
)
def test_a_bad_request_is_one_line(
    served: TestClient, body: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    answer = served.post("/v1/captions", content=body, headers=headers)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_images_that_are_too_large_are_refused_before_they_are_decoded(model: Model, place: Path) -> None:
    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    bomb = PNG[:12] + header + zlib.crc32(header).to_bytes(4, "big") + PNG[33:]
    with client(model, place, Limits(bytes=20_000, pixels=10_000)) as small:
        said = small.post("/v1/captions", files={"images": bomb}).json()["error"]
        assert said == "an image of far too many pixels; at most 10,000"
        assert small.post("/v1/captions", files={"images": png(size=(101, 100))}).status_code == 413  # of noise
        flat = io.BytesIO()
        Image.new("RGB", (101, 100)).save(flat, "PNG")
        assert "10,100 pixels" in small.post("/v1/captions", files={"images": flat.getvalue()}).json()["error"]

        def pieces() -> Iterator[bytes]:
            yield from (b"x" * 1000 for _ in range(30))

        unannounced = small.post("/v1/captions", content=pieces(), headers=JSON)
        assert unannounced.status_code == 413
        assert small.post("/v1/captions", files={"images": png(size=(20, 20))}).status_code == 200


def test_pages_of_other_sites_and_names_are_refused(served: TestClient) -> None:
    """Another site's page, by its own address or by a name that it lets point here (DNS rebinding)."""
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"host": "evil.example"}):
        assert served.post("/v1/captions", files={"images": PNG}, headers=headers).status_code == 403
    same = served.post("/v1/captions", files={"images": PNG}, headers={"origin": "http://testserver"})
    assert same.status_code == 200


# Requests by shape, as two photo libraries send them: PhotoPrism's vision engine to Ollama, and to OpenAI's interface.
OLLAMA = {
    "model": "gemma3:latest",
    "prompt": "Create a caption with exactly one sentence in the active voice",
    "system": "",
    "stream": False,
    "think": "false",
    "images": [TEXT],
    "options": {"temperature": 0.1, "top_k": 40, "num_ctx": 4096, "stop": ["\n\n"]},
}
CHAT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "You describe images."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Describe this image."},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{TEXT}", "detail": "low"}},
            ],
        },
    ],
    "max_tokens": 300,
    "temperature": 0.1,
}


def test_ollamas_protocol(served: TestClient, model: Model) -> None:
    expected = model(PNG).text
    answer = served.post("/api/generate", json=OLLAMA).json()
    assert (answer["response"], answer["done"], answer["model"]) == (expected, True, "gemma3:latest")
    assert answer["total_duration"] > 0
    streamed = served.post("/api/generate", json={**OLLAMA, "stream": True})
    assert streamed.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["response"] for line in streamed.text.splitlines()] == [expected]
    chat = {"model": "x", "messages": [{"role": "user", "content": "?", "images": [TEXT]}], "stream": False}
    assert served.post("/api/chat", json=chat).json()["message"] == {"role": "assistant", "content": expected}
    assert served.post("/api/generate", json={"model": "x", "stream": False}).json()["response"] == ""
    failed = served.post("/api/generate", json={"model": "x", "prompt": "hello"})
    assert (failed.status_code, "no image" in failed.json()["error"]) == (400, True)
    [entry] = served.get("/api/tags").json()["models"]
    assert entry["name"] == "tiny:latest"
    assert entry["size"] > 1000
    assert "vision" in served.post("/api/show", json={"model": "tiny"}).json()["capabilities"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", served.get("/api/version").json()["version"])


def test_openais_protocol(served: TestClient, model: Model) -> None:
    expected = model(PNG).text
    answer = served.post("/v1/chat/completions", json=CHAT).json()
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": expected}
    assert answer["object"] == "chat.completion"
    assert answer["usage"]["completion_tokens"] == len(expected.split())
    streamed = served.post("/v1/chat/completions", json=CHAT | {"stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *pieces, end = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
    assert end == "[DONE]"
    deltas = [json.loads(piece)["choices"][0] for piece in pieces]
    assert "".join(delta["delta"].get("content", "") for delta in deltas) == expected
    assert deltas[-1]["finish_reason"] == "stop"
    assert served.get("/v1/models").json()["data"][0]["id"] == "tiny"
    failed = served.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hello"}]})
    assert failed.status_code == 400
    assert failed.json()["error"]["type"] == "invalid_request_error"
    assert "no image" in failed.json()["error"]["message"]


def test_the_interface_is_described_and_the_page_asks_nobody_else(served: TestClient) -> None:
    paths = served.get("/openapi.json").json()["paths"]
    assert {"/v1/captions", "/api/generate", "/v1/chat/completions"} <= paths.keys()
    assert paths["/v1/captions"]["post"]["requestBody"]["content"].keys() == {"application/json", "multipart/form-data"}
    page = served.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/", "/page.js", "/page.css"):
        assert not re.search(r"https?://", served.get(path).text)
    assert served.get("/docs").status_code == 404
    assert served.get("/healthz").json() == {"status": "ok", "model": "tiny"}


def test_requests_are_counted(model: Model, place: Path) -> None:
    with client(model, place) as served:
        served.post("/v1/captions", files={"images": PNG})
        served.post("/v1/captions", content=b"x")
        served.get("/nowhere")
        text = served.get("/metrics").text
    assert 'captioning_requests_total{route="/v1/captions",status="200"} 1.0' in text
    assert 'captioning_requests_total{route="/v1/captions",status="415"} 1.0' in text
    assert 'captioning_requests_total{route="other",status="404"} 1.0' in text
    assert "captioning_images_total 1.0" in text
    assert "captioning_waiting_images 0.0" in text


class Held:
    """A model that waits until it is released, and keeps the sizes of its batches."""

    def __init__(self, model: Model) -> None:
        self.model, self.free, self.begun, self.sizes = model, threading.Event(), threading.Event(), list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def batch(self, images: list[Any], options: Any) -> Any:
        self.begun.set()
        assert self.free.wait(30)
        self.sizes.append(len(images))
        return self.model.batch(images, options)


def test_images_that_wait_are_captioned_together_and_in_order(model: Model) -> None:
    held = Held(model)
    batcher = Batcher(held, most=4, waiting=100)  # type: ignore[arg-type]
    options, others = model.options(), model.options(n_best=2)
    images = [read(png(seed)) for seed in range(9)]
    first = batcher.submit(images[:1], options)
    assert held.begun.wait(30)
    futures = batcher.submit(images[1:7], options) + batcher.submit(images[7:], others)
    held.free.set()
    found = [future.result(30) for future in first + futures]
    assert held.sizes == [1, 4, 2, 2]
    alone = [model.batch([image], options)[0].captions[0].text for image in images]
    assert [one.captions[0].text for one in found] == alone
    assert [len(one.captions) for one in found] == [1] * 7 + [2] * 2
    batcher.close()


def test_a_full_queue_takes_all_or_nothing(model: Model) -> None:
    held = Held(model)
    batcher = Batcher(held, most=4, waiting=3)  # type: ignore[arg-type]
    options, image = model.options(), read(PNG)
    batcher.submit([image], options)
    assert held.begun.wait(30)
    batcher.submit([image] * 2, options)
    with pytest.raises(FullError):
        batcher.submit([image] * 2, options)
    last = batcher.submit([image], options)
    held.free.set()
    assert last[0].result(30).captions
    batcher.close()
    with pytest.raises(FullError):
        batcher.submit([image], options)


def test_a_model_that_fails_fails_its_batch_alone(model: Model) -> None:
    batcher = Batcher(model, most=4, waiting=10)
    [bad] = batcher.submit([None], model.options())  # type: ignore[list-item]
    assert isinstance(bad.exception(30), AttributeError)
    [good] = batcher.submit([read(PNG)], model.options())
    assert good.result(30).captions
    batcher.close()


def test_too_many_images_are_answered_with_429_and_slow_captions_with_504(model: Model, place: Path) -> None:
    held = Held(model)
    limits = Limits(waiting=1, seconds=1.0)
    with client(held, place, limits) as served, ThreadPoolExecutor(3) as pool:  # type: ignore[arg-type]
        send = lambda: served.post("/v1/captions", files={"images": PNG})  # noqa: E731
        first = pool.submit(send)
        assert held.begun.wait(30)
        statuses = [served.post("/v1/captions", json={"images": [TEXT, TEXT]}).status_code]
        assert statuses == [429]
        assert first.result(30).status_code == 504
        held.free.set()
        assert served.post("/v1/captions", files={"images": PNG}).status_code == 200


@contextmanager
def process(place: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`captioning serve` as a process, and its port."""
    command = [sys.executable, "-c", "from captioning.cli import main; main()", "serve", "--port", "0"]
    command += ["--model", str(place), *options]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert started.stderr is not None
    try:
        line = started.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line + started.stderr.read()
        yield started, int(found[1])
    finally:
        started.kill()
        started.wait()
        started.stderr.close()


def get(port: int, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return dict(json.load(answer))


def test_a_hostile_client_harms_nobody_and_sigterm_ends_the_server(place: Path) -> None:
    with process(place, "--seconds", "2", "--megabytes", "1") as (started, port):
        hostile = []
        for opening in (
            b"",  # connects, and says nothing
            b"POST /v1/captions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Len",
            b"POST /v1/captions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{",  # a body that never ends
            b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9,  # TLS
            b"POST /v1/captions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ):
            link = socket.create_connection(("127.0.0.1", port), timeout=30)
            link.sendall(opening)
            hostile.append(link)
        assert get(port, "/healthz")["status"] == "ok"
        assert b"408" in hostile[2].recv(1000)  # after half of --seconds
        body = json.dumps({"images": [TEXT]}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/captions", body, JSON)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["images"][0]["caption"]
        for link in hostile:
            link.close()
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 143
        assert started.stderr is not None
        said = started.stderr.read()
        assert "Traceback" not in said, said


def test_an_address_that_is_taken_is_one_line(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-c", "from captioning.cli import main; main()", "serve", "--model", str(place)]
        done = subprocess.run([*command, "--port", str(taken.getsockname()[1])], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"error: cannot listen on 127.0.0.1, port \d+: .*; choose another --port\n", done.stderr)


def test_the_benchmark_of_the_server_prints_its_table(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    serving.main(str(tmp_path / "a.png"), "3", "1", str(place))
    said = capsys.readouterr().out
    assert re.search(r"3 clients, \d+ s, \d+ cores: \d+\.\d captions/s", said)
    assert re.search(r"99th percentile \d", said)
    assert re.search(r"answers by status: \{200: \d+\}", said)
