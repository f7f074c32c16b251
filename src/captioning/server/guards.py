"""What stands before the routes: limits on size and time of a request, on who may send one, and its count."""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from h11 import LocalProtocolError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from captioning.server.limits import Limits
from captioning.server.measures import Measures


class _RefusedError(Exception):
    """A request is refused: its status, and why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Guard:
    """ASGI middleware. It refuses what is too large (413), too slow (408), too long (504), or from elsewhere (403)."""

    def __init__(self, app: ASGIApp, limits: Limits, hosts: Sequence[str] | None, measures: Measures) -> None:
        self._app, self._limits, self._hosts, self._measures = app, limits, hosts, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            with contextlib.suppress(LocalProtocolError):  # the connection is over, since the request was no HTTP
                await send(message)

        try:
            self._check(scope)
            async with asyncio.timeout(self._limits.seconds):
                await self._app(scope, self._limited(receive, begun), counted)
        except (_RefusedError, TimeoutError) as fault:
            if not status:
                refused = (
                    fault if isinstance(fault, _RefusedError) else _RefusedError(504, "the captions took too long")
                )
                await _refuse(refused, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._measures.request(route, status, time.monotonic() - begun)

    def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = urlsplit(f"//{headers.get('host', '')}")
        if self._hosts is not None and (host.hostname or "") not in self._hosts:
            raise _RefusedError(403, "this server is not called by that name; see `captioning serve --host`")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise _RefusedError(403, "pages of other sites may not use this server")
        size = headers.get("content-length", "0")
        if size.isdecimal() and int(size) > self._limits.bytes:
            raise _RefusedError(413, self._too_large)

    @property
    def _too_large(self) -> str:
        return f"a request of more than {self._limits.bytes:,} bytes"

    def _limited(self, receive: Receive, begun: float) -> Receive:
        """The body in pieces, as long as it is neither too large nor too slow."""
        received, whole = 0, False

        async def limited() -> Message:
            nonlocal received, whole
            if whole:
                return await receive()  # what comes now is that the client has left
            try:
                async with asyncio.timeout_at(_loop_time(begun + self._limits.seconds / 2)):
                    message: dict[str, Any] = dict(await receive())
            except TimeoutError:
                raise _RefusedError(408, "the request came too slowly") from None
            received += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if received > self._limits.bytes:
                raise _RefusedError(413, self._too_large)
            return message

        return limited


def _loop_time(moment: float) -> float:
    """A moment of `time.monotonic` in the loop's own time."""
    return asyncio.get_running_loop().time() + moment - time.monotonic()


async def _refuse(refused: _RefusedError, send: Send) -> None:
    content = json.dumps({"error": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
