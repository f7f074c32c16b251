"""`captioning serve` under load: so many clients, each with one request after the other, on the loopback interface.

    python -m benchmarks.serving IMAGE [CLIENTS] [SECONDS] [MODEL]      # by default 64 clients for a minute

Prints requests a second, the median and the 99th percentile of their time, the answers by status, and the server's
memory before and after. Clients run on the same cores as the server.
"""

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path


def _memory_mib(process: int) -> float:
    """The resident memory of a process."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) / 1024


def _client(port: int, body: bytes, end: float, seconds: list[float], statuses: Counter[int]) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as link:
        _requests(link, body, end, seconds, statuses)


def _requests(
    link: http.client.HTTPConnection, body: bytes, end: float, seconds: list[float], statuses: Counter[int]
) -> None:
    while time.monotonic() < end:
        begun = time.monotonic()
        link.request("POST", "/v1/captions", body, {"content-type": "multipart/form-data; boundary=b"})
        answer = link.getresponse()
        content = answer.read()
        statuses[answer.status] += 1
        if answer.status == 200:
            assert json.loads(content)["images"][0]["caption"]
            seconds.append(time.monotonic() - begun)


def _body(image: Path) -> bytes:
    head = b'--b\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
    return head + image.read_bytes() + b"\r\n--b--\r\n"


def _load(port: int, body: bytes, clients: int, duration: float) -> tuple[list[float], Counter[int], float]:
    seconds: list[float] = []
    statuses: Counter[int] = Counter()
    begun = time.monotonic()
    end = begun + duration
    arguments = (port, body, end, seconds, statuses)
    threads = [threading.Thread(target=_client, args=arguments) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, statuses, time.monotonic() - begun


def main(image: str, clients: str = "64", duration: str = "60", model: str = "photographs") -> None:
    command = [
        sys.executable,
        "-c",
        "from captioning.cli import main; main()",
        "serve",
        "--port",
        "0",
        "--model",
        model,
    ]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        [port] = re.findall(r"http://127\.0\.0\.1:(\d+)/", server.stderr.readline())
        body = _body(Path(image))
        _load(int(port), body, int(clients), float(duration) / 4)  # warm: memory that is freed is kept
        before = _memory_mib(server.pid)
        seconds, statuses, took = _load(int(port), body, int(clients), float(duration))
        after = _memory_mib(server.pid)
    finally:
        server.terminate()
        server.wait()
        server.stderr.close()
    ordered = sorted(seconds)
    print(f"{clients} clients, {took:.0f} s, {os.cpu_count()} cores: {len(ordered) / took:.1f} captions/s")
    print(f"median {ordered[len(ordered) // 2]:.3f} s, 99th percentile {ordered[int(0.99 * len(ordered))]:.3f} s")
    print(f"answers by status: {dict(sorted(statuses.items()))}; memory {before:.0f} MiB before, {after:.0f} after")


if __name__ == "__main__":
    main(*sys.argv[1:])
