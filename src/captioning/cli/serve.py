"""`captioning serve`: a model behind HTTP."""

import importlib.util
import ipaddress
import re
from pathlib import Path
from typing import Annotated

from typer import Option

from captioning.cli.predict import EngineOption
from captioning.data.runtimes.registry import Engine
from captioning.models import choice, loading
from captioning.server.limits import Limits
from captioning.system.errors import UserError

_DEFAULTS = Limits()
_Models = Annotated[
    list[str] | None, Option(help="As for `captioning predict`.", show_default="as for `captioning predict`")
]
_Host = Annotated[str, Option(help="The address to listen on; 0.0.0.0: every one of this machine, also from outside.")]
_Port = Annotated[int, Option(min=0, max=65535, help="The port; 0: one that is free.")]
_Threads = Annotated[int | None, Option(min=1, help="CPU threads.", show_default="the model's")]
_Megabytes = Annotated[int, Option(min=1, max=4096, help="Of a request, at most.")]
_Megapixels = Annotated[int, Option(min=1, max=1000, help="Of an image, at most.")]
_Images = Annotated[int, Option(min=1, max=1000, help="Of a request, at most.")]
_Waiting = Annotated[int, Option(min=1, max=100_000, help="Images that may wait; beyond that the answer is 429.")]
_Seconds = Annotated[float, Option(min=1, max=3600, help="That a request may take.")]


def serve(
    model: _Models = None,
    host: _Host = "127.0.0.1",
    port: _Port = 8080,
    engine: EngineOption = Engine.torch,
    threads: _Threads = None,
    megabytes: _Megabytes = _DEFAULTS.bytes // 1_000_000,
    megapixels: _Megapixels = _DEFAULTS.pixels // 1_000_000,
    images: _Images = _DEFAULTS.images,
    waiting: _Waiting = _DEFAULTS.waiting,
    seconds: _Seconds = _DEFAULTS.seconds,
) -> None:
    """Serve a model: a page, a REST interface, and the protocols of Ollama and OpenAI.

    Ctrl-C or SIGTERM ends it, after the requests that are under way.
    """
    _check_installed()
    if choice.outside(model, None) is not None:
        raise UserError("captioning serve: models of this library only; caption files with `captioning predict`")
    models = choice.models(model, None)
    loaded = loading.pinned(models, threads=threads, engine=engine)
    loaded.refuse_objects("serve another model")
    from captioning.server.running import run

    limits = Limits(megabytes * 1_000_000, megapixels * 1_000_000, images, waiting, seconds)
    name = _name(models[0].title)
    hosts = ("localhost", "127.0.0.1", "::1", host) if _is_loopback(host) else None
    run(loaded, name, models[0].folder, limits, host=host, port=port, hosts=hosts)


def _name(title: str) -> str:
    """What clients call a model: the last part of its folder, its revision, or its name if it is shipped."""
    first = title.removesuffix(" (shipped)").partition(",")[0].rstrip("/")
    return re.sub(r"[^\w.@-]+", "-", Path(first).name) or "model"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_installed() -> None:
    for name in ("fastapi", "multipart", "prometheus_client", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"captioning serve needs {name}: pip install 'captioning[serve]'")
