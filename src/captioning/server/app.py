"""The web application: its routes, and how a request becomes captions."""

import asyncio
import io
import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi import Request as Call
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from captioning.models.loading import digest_of
from captioning.models.python import Captioned, TrainedModel
from captioning.models.sources import Read, read
from captioning.server import protocols
from captioning.server.batching import Batcher, FullError
from captioning.server.guards import Guard
from captioning.server.limits import Limits
from captioning.server.measures import Measures
from captioning.system.errors import UserError

_BATCH = 16  # images captioned together
_DECODERS = 2  # images decoded at a time, so that large ones do not fill the memory
_PAGE = {"": "text/html", "page.js": "text/javascript", "page.css": "text/css"}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Service:
    """What the routes share: the model behind its queue, limits and counters."""

    def __init__(self, model: TrainedModel, name: str, folder: Path, limits: Limits) -> None:
        self.model, self.name, self.folder, self.limits = model, name, folder, limits
        self.batcher = Batcher(model, most=_BATCH, waiting=limits.waiting)
        self.measures = Measures(lambda: self.batcher.waiting)
        self._decoders = asyncio.Semaphore(_DECODERS)

    async def captions(self, files: Sequence[bytes], **search: Any) -> list[tuple[Read, Captioned]]:
        """Caption image files. Raises UserError for a bad one, FullError when too many wait."""
        if not files:
            raise UserError("no image in the request")
        if len(files) > self.limits.images:
            raise UserError(f"{len(files)} images in a request; at most {self.limits.images}")
        options = self.model.options(**search)
        images = [await self._read(data) for data in files]
        futures = self.batcher.submit(images, options)
        try:
            found = await asyncio.gather(*map(asyncio.wrap_future, futures))
        except asyncio.CancelledError:
            for future in futures:
                future.cancel()
            raise
        self.measures.captioned(len(files))
        return list(zip(images, found, strict=True))

    async def _read(self, data: bytes) -> Read:
        async with self._decoders:
            return await run_in_threadpool(_decoded, data, self.limits.pixels)

    def box(self, image: Image.Image) -> list[float]:
        """What the model sees of an image: left, top, right, bottom, as shares of its sides."""
        seen = self.model.captioners.members[0].transform.seen(image.size)
        return [round(place / image.size[side % 2], 4) for side, place in enumerate(seen)]


def _decoded(data: bytes, most: int) -> Read:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            pixels = opened.width * opened.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"an image of far too many pixels; at most {most:,}") from None
    except Exception:  # `read` says what is wrong
        pixels = 0
    if pixels > most:
        raise UserError(f"an image of {pixels:,} pixels; at most {most:,}")
    return read(data)


def create(model: TrainedModel, name: str, folder: Path, limits: Limits, hosts: Sequence[str] | None = None) -> FastAPI:
    """The application that serves a model.

    name: of the model, for clients. folder: where it lies. hosts: names by which the server may be called, so that no
    page of another name reaches it (DNS rebinding); None: any.
    """
    service = Service(model, name, folder, limits)

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.batcher.close)

    app = FastAPI(title="captioning", version="1", docs_url=None, redoc_url=None, lifespan=life)
    app.state.service = service
    _add_faults(app)
    _add_page(app)
    _add_captions(app, service)
    _add_ollama(app, service)
    _add_openai(app, service)
    _add_operation(app, service)
    app.add_middleware(Guard, limits=limits, hosts=hosts, measures=service.measures)
    return app


def _add_faults(app: FastAPI) -> None:
    """Each fault is a status and one line."""

    def answer(call: Call, status: int, text: str) -> Response:
        openai = call.url.path.startswith("/v1/chat")
        kind = "invalid_request_error" if status < 500 else "server_error"
        said: Any = {"message": text, "type": kind, "param": None, "code": None} if openai else text
        headers = {"retry-after": "1"} if status == 429 else None
        return JSONResponse({"error": said}, status, headers)

    async def user(call: Call, fault: Exception) -> Response:
        return answer(call, 400, str(fault).splitlines()[0])

    async def full(call: Call, _fault: Exception) -> Response:
        return answer(call, 429, "too many images wait; try again in a moment")

    async def http(call: Call, fault: Exception) -> Response:
        assert isinstance(fault, HTTPException)
        return answer(call, fault.status_code, str(fault.detail))

    async def invalid(call: Call, fault: Exception) -> Response:
        assert isinstance(fault, RequestValidationError | ValidationError)
        first = fault.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return answer(call, 400, f"{place}: {first['msg']}" if place else str(first["msg"]))

    app.add_exception_handler(UserError, user)
    app.add_exception_handler(FullError, full)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ValidationError, invalid)


def _add_page(app: FastAPI) -> None:
    """The page, its script and its style."""
    files = resources.files("captioning.server") / "page"
    for path, kind in _PAGE.items():
        content = (files / (path or "index.html")).read_bytes()

        def send(content: bytes = content, kind: str = kind) -> Response:
            return Response(content, media_type=kind, headers=_HEADERS)

        app.add_api_route(f"/{path}", send, include_in_schema=False)


def _add_captions(app: FastAPI, service: Service) -> None:
    body = {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": protocols.Request.model_json_schema()},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
                            "n_best": {"type": "integer", "default": 1},
                            "must": {"type": "array", "items": {"type": "string"}},
                            "attention": {"type": "boolean", "default": False},
                        },
                    }
                },
            },
        }
    }

    @app.post("/v1/captions", openapi_extra=body, summary="Caption images")
    async def captions(call: Call) -> dict[str, Any]:
        files, request = await _request(call)
        found = await service.captions(files, n_best=request.n_best, must=request.must)
        entries = []
        for image, captioned in found:
            entry = await run_in_threadpool(protocols.record, captioned, attention=request.attention)
            entries.append(entry | ({"box": service.box(image.image)} if "attention" in entry else {}))
        return {"model": service.name, "images": entries}


async def _request(call: Call) -> tuple[list[bytes], protocols.Request]:
    """The image files of a request and its options, from a form or from JSON."""
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            request = protocols.Request.model_validate_json(await call.body())
        except RecursionError:
            raise UserError("the body is nested too deeply") from None
        return [protocols.decoded(text) for text in request.images], request
    if kind != "multipart/form-data":
        raise HTTPException(415, "send multipart/form-data with files named `images`, or application/json")
    async with call.form(max_files=1000, max_fields=1000) as form:
        files = [await part.read() for part in form.getlist("images") if isinstance(part, UploadFile)]
        fields = {name: form.get(name) for name in ("n_best", "attention") if isinstance(form.get(name), str)}
        must = [text for text in form.getlist("must") if isinstance(text, str)]
        return files, protocols.Request.model_validate({"images": ["-"], "must": must, **fields})


def _add_ollama(app: FastAPI, service: Service) -> None:
    tag = f"{service.name}:latest"

    @app.get("/api/tags", summary="Ollama: the models")
    async def tags() -> dict[str, Any]:
        size = sum(path.stat().st_size for path in service.folder.iterdir())
        return protocols.tags(tag, size, digest_of(service.folder))

    @app.get("/api/version", summary="Ollama: the version")
    async def version() -> dict[str, str]:
        return {"version": "0.12.0"}

    @app.post("/api/show", summary="Ollama: a model")
    async def show() -> dict[str, Any]:
        entry: dict[str, Any] = protocols.tags(tag, 0, "")["models"][0]
        return entry | {"modelfile": "", "parameters": "", "template": ""}

    @app.post("/api/generate", summary="Ollama: the caption of an image")
    async def generate(request: protocols.OllamaRequest) -> Response:
        begun = time.monotonic()
        text = await _caption(service, request.images) if request.images else _without_image(request.prompt)
        answer = protocols.ollama(request.model or tag, text, "response", time.monotonic() - begun)
        return _ollama(answer, stream=request.stream)

    @app.post("/api/chat", summary="Ollama: the caption of an image, as a chat")
    async def chat(request: protocols.ChatRequest) -> Response:
        begun = time.monotonic()
        text = await _caption(service, request.pictures())
        answer = protocols.ollama(request.model or tag, text, "message", time.monotonic() - begun)
        return _ollama(answer, stream=request.stream is not False)


def _without_image(prompt: str) -> str:
    """Ollama's way to load a model is a request without a prompt; with one, an image is missing."""
    if prompt:
        raise UserError("no image in the request: this model captions images, and answers no questions")
    return ""


async def _caption(service: Service, images: Sequence[str]) -> str:
    """The captions of images, a line each."""
    found = await service.captions([protocols.decoded(text) for text in images])
    return "\n".join(captioned.captions[0].text for _, captioned in found)


def _ollama(answer: dict[str, Any], *, stream: bool) -> Response:
    if not stream:
        return JSONResponse(answer)
    return Response(json.dumps(answer) + "\n", media_type="application/x-ndjson")


def _add_openai(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", summary="OpenAI: the models")
    async def models() -> dict[str, Any]:
        entry = {"id": service.name, "object": "model", "created": 0, "owned_by": "captioning"}
        return {"object": "list", "data": [entry]}

    @app.post("/v1/chat/completions", summary="OpenAI: the caption of an image in a chat")
    async def completions(request: protocols.ChatRequest) -> Response:
        text = await _caption(service, request.pictures())
        name, identity = request.model or service.name, secrets.token_hex(12)
        if not request.stream:
            return JSONResponse(protocols.completion(name, text, identity))
        pieces = [f"data: {json.dumps(piece)}\n\n" for piece in protocols.chunks(name, text, identity)]
        return StreamingResponse(iter([*pieces, "data: [DONE]\n\n"]), media_type="text/event-stream")


def _add_operation(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Is the server ready?")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "model": service.name}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        content, kind = service.measures.exposition()
        return Response(content, media_type=kind)
