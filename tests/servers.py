"""An HTTP server on this machine that misbehaves on request."""

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


@dataclass(frozen=True)
class Reply:
    """What one request gets. cut: so many bytes of the answer's body, then the connection is closed."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None
    ranges: bool = True
    heeds_if_range: bool = True
    cut: int | None = None


@dataclass(frozen=True)
class Seen:
    """A request: its path and headers, and how the server answered."""

    path: str
    headers: Mapping[str, str]
    status: int
    sent: int


class Server:
    """Serves on 127.0.0.1: request i gets `replies[i]`, and those after the last get the last.

    With `files` (path → bytes) it serves those, whole, and 404 for any other path.
    """

    def __init__(self, *replies: Reply, files: Mapping[str, bytes] | None = None) -> None:
        self.replies: Sequence[Reply] = replies
        self.files = files or {}
        self.seen: list[Seen] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, format: str, *values: object) -> None:
                """Be quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})

    def url(self, name: str) -> str:
        """The URL of a file."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/{name}"

    def _reply(self, path: str) -> Reply:
        if self.replies:
            return self.replies[min(len(self.seen), len(self.replies) - 1)]
        name = path.lstrip("/")
        return Reply(self.files[name]) if name in self.files else Reply(status=404)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        reply = self._reply(handler.path)
        status, body, headers = _content(reply, handler.headers.get("Range"), handler.headers.get("If-Range"))
        sent = body if reply.cut is None else body[: reply.cut]
        self.seen.append(Seen(handler.path, dict(handler.headers), status, len(sent)))
        handler.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers, **reply.headers}.items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(sent)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_fault: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def _content(reply: Reply, asked: str | None, if_range: str | None) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers, with Range and If-Range as RFC 9110 has them."""
    headers = {"ETag": reply.etag} if reply.etag else {}
    same = not reply.heeds_if_range or if_range in (None, reply.etag, reply.headers.get("Last-Modified"))
    if reply.status != 200 or asked is None or not reply.ranges or not same:
        return reply.status, reply.body, headers
    found = re.fullmatch(r"bytes=(\d+)-", asked)
    assert found
    start, size = int(found[1]), len(reply.body)
    if start >= size:
        return 416, b"", {**headers, "Content-Range": f"bytes */{size}"}
    return 206, reply.body[start:], {**headers, "Content-Range": f"bytes {start}-{size - 1}/{size}"}
