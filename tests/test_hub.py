"""Models by name, from a stand-in of the Hugging Face hub: what is fetched, and what is said where it cannot be.

It speaks the hub's interface: a revision, its tree, and files with their tags.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest

import captioning
from captioning.models import hub
from captioning.system.errors import UserError
from tests import outside_models

SHA = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/tiny-captioner"


class Hub(ThreadingHTTPServer):
    """Has one model, whose files are in a folder."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if path == f"/api/models/{NAME}/revision/main":
            self.answer(json.dumps({"id": NAME, "sha": SHA, "siblings": []}).encode())
        elif path == f"/api/models/{NAME}/tree/{SHA}":
            files = [file for file in sorted(self.server.folder.rglob("*")) if file.is_file()]
            self.answer(json.dumps([self.entry(file) for file in files]).encode())
        elif path.startswith(f"/{NAME}/resolve/{SHA}/"):
            self.answer((self.server.folder / path.removeprefix(f"/{NAME}/resolve/{SHA}/")).read_bytes())
        else:
            self.answer(b"{}", 404, **{"X-Error-Code": "RepoNotFound"})

    def entry(self, file: Path) -> dict[str, object]:
        name = file.relative_to(self.server.folder).as_posix()
        return {"type": "file", "path": name, "size": file.stat().st_size, "oid": name.encode().hex()[:40]}

    def answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        tag = self.path.rpartition("/")[2].encode().hex()[:40]
        common = {"Content-Length": str(len(content)), "ETag": f'"{tag}"', "X-Repo-Commit": SHA}
        for name, value in (common | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def move(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """As HF_ENDPOINT does where it is set before the library is loaded."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a model that has code, pickles and an export beside its safetensors, and an empty cache."""
    folder = outside_models.made("git", tmp_path / "model")
    (folder / "onnx").mkdir()
    for name in ("mine.py", "pytorch_model.bin", "onnx/model.safetensors"):
        (folder / name).write_bytes(b"not to be fetched")
    server = Hub(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    move(monkeypatch, server.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_is_fetched_once_by_name_without_pickles_and_code(there: Hub) -> None:
    model = captioning.load(f"hf:{NAME}")
    assert model.titles == (f"hf:{NAME}, commit {SHA[:7]}",)
    picture = np.zeros((40, 40, 3), np.uint8)
    expected = captioning.load(f"hf:{there.folder}")(picture)
    assert model(picture).log_probability == expected.log_probability
    files = {path.partition(f"/resolve/{SHA}/")[2] for path in there.asked} - {""}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
    assert not files & {"mine.py", "pytorch_model.bin", "onnx/model.safetensors"}
    there.asked.clear()
    assert hub.fetch(NAME).name == SHA
    assert not any("resolve" in path for path in there.asked)


def test_what_the_hub_has_not_got_is_one_line(there: Hub) -> None:
    with pytest.raises(UserError, match="no such folder, and the Hugging Face hub has no such model") as fault:
        captioning.load("hf:someone/else")
    assert "\n" not in str(fault.value)
    assert there.asked


@pytest.mark.usefixtures("there")
def test_without_a_network_a_model_of_the_cache_is_used_and_others_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched = hub.fetch(NAME)
    move(monkeypatch, "http://127.0.0.1:1")  # where nobody listens
    assert hub.fetch(NAME) == fetched
    with pytest.raises(UserError, match=r"not to be had .* copy the model's folder .*: --model hf:FOLDER") as fault:
        captioning.load("hf:someone/else")
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("name", ["a/b/c", "a b", "https://example.org/x", ""])
def test_what_is_neither_a_folder_nor_a_name_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match="no such folder, and no name of the Hugging Face hub"):
        captioning.load(f"hf:{name}")
