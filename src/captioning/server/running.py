"""The server's process: its socket, and uvicorn."""

import errno
import socket
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from PIL import Image

from captioning.models.python import TrainedModel
from captioning.server.app import create
from captioning.server.limits import Limits
from captioning.system.errors import UserError

_CONNECTIONS = 512  # at a time; more are answered with 503
_DRAIN_S = 30  # that requests under way may take after SIGTERM


def run(
    model: TrainedModel, name: str, folder: Path, limits: Limits, *, host: str, port: int, hosts: Sequence[str] | None
) -> None:
    """Serve until a signal comes. Raises UserError when the address cannot be listened on."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)  # `app` refuses such images
    app = create(model, name, folder, limits, hosts)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_DRAIN_S,
        h11_max_incomplete_event_size=64 * 1024,
    )
    with _listening(host, port) as listener:
        where = f"[{host}]" if ":" in host else host
        print(f"serving {name} at http://{where}:{listener.getsockname()[1]}/", file=sys.stderr, flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, number)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_CONNECTIONS)
    except OSError as fault:
        remedy = "choose another --port" if fault.errno == errno.EADDRINUSE else "choose another --host or --port"
        raise UserError(f"cannot listen on {host}, port {port}: {fault.strerror}; {remedy}") from None
    return listener
