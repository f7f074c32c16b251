"""Files from the network, or from a folder of the user's: resumed, checked, and in place only when whole."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from captioning.data.network.partial import Partial
from captioning.system import files
from captioning.system.errors import UserError, escaped
from captioning.system.files import disk_faults_told
from captioning.system.locks import alone

WEIGHTS = "weights"  # subfolder of a user's folder that may have published weights
_TRIES = 5  # in a row, counted anew when one gains something
_LONGEST_WAIT = 600.0  # seconds; a server that asks for more ends the run
_TIMEOUT = (15.0, 60.0)  # seconds: to connect, and between two pieces
_PIECE = 1 << 16  # bytes
_PASSING = (408, 429)  # and 5xx: HTTP statuses worth another try


@dataclass(frozen=True)
class Fetched:
    """A file that was fetched.

    origin: its URL when the bytes are those published there, else `source`. digest: `algorithm:hex`, in the
    algorithm of the published digest (sha256 if none is). published: are they the same?
    """

    name: str
    origin: str
    bytes: int
    digest: str
    sha256: str
    published: bool


def fetch(
    url: str,
    target: Path,
    *,
    digest: str | None,
    source: Path | None,
    cache: Path,
    subfolder: str = "",
    name: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Bring the file that is published at `url` to `target`.

    A file of that name in `source`, or in its `subfolder`, is copied; one with another digest too, which is said and
    recorded. A `target` that has the published digest stays as it is. Otherwise the file is downloaded: what has
    arrived is kept in `cache`, and a broken download goes on from there (HTTP Range, RFC 9110 §14) if it is still what
    arrived. Without a published digest the server must also say which version it sends, else it begins anew.

    digest: `md5:hex`, `sha256:hex`, `sha256-prefix:hex` (as in the file names of torchvision), or None.
    name: the file's here, where the last part of its URL says too little; it is that otherwise.
    sleep: waits so many seconds between two tries.
    Raises UserError, with what to do, when there is no network, the server refuses, what came is not what is
    published, or the disk is full or may not be written.
    """
    name = name or urlsplit(url).path.rpartition("/")[2]
    with disk_faults_told(target), alone(cache / f".{name}.lock"):
        local_file = find(source, subfolder, name)
        if local_file:
            files.copy(local_file, target)
        elif not (target.is_file() and _compare(target, digest)[1]):
            _download(url, target, digest, Partial(cache, name, url, checked=digest is not None), sleep)
    return _record(url, target, digest, local_file)


def fetch_weights(url: str, *, source: Path | None, cache: Path, name: str | None = None) -> tuple[Path, Fetched]:
    """Bring published weights to `cache`, as `fetch` does: their name may end in the first digits of their sha256.

    In `source`, they may be in its subfolder `weights`.
    """
    name = name or url.rpartition("/")[2]
    digits = Path(name).stem.rpartition("-")[2]
    digest = f"sha256-prefix:{digits}" if re.fullmatch(r"[0-9a-f]{8,64}", digits) else None
    target = cache / name
    return target, fetch(url, target, digest=digest, source=source, cache=cache, subfolder=WEIGHTS, name=name)


def take(local_file: Path, target: Path, bring: Callable[[Path, Path], None] = files.copy) -> Fetched:
    """Bring what is in the user's folder and has no published digest to `target`.

    bring: makes the second path of the first, atomically: copies the file, or packs a folder (`packing.pack`).
    Raises UserError when the disk is full or may not be written.
    """
    with disk_faults_told(target):
        bring(local_file, target)
        _say(f"{target.name}: made of {local_file}")
        sha256 = files.digest(target)
        return Fetched(target.name, "source", target.stat().st_size, f"sha256:{sha256}", sha256, published=False)


def find(source: Path | None, subfolder: str, *names: str) -> Path | None:
    """The first of the names that is in the folder `source`, or in its `subfolder`; None where there is none.

    Raises UserError when there is no folder `source`.
    """
    if source is None:
        return None
    if not source.is_dir():
        raise UserError(f"download.source = {source}: no such folder; correct params.yaml or CAPTIONING_SOURCE")
    return next((path for name in names for path in (source / name, source / subfolder / name) if path.exists()), None)


def _compare(path: Path, digest: str | None) -> tuple[str, bool]:
    """The digest of a file, as `algorithm:hex`, and whether it is the published one."""
    kind, _, expected = (digest or "sha256:").partition(":")
    algorithm = kind.removesuffix("-prefix")
    actual = files.digest(path, algorithm)
    return f"{algorithm}:{actual}", bool(expected) and actual.startswith(expected)


def _record(url: str, target: Path, digest: str | None, local_file: Path | None) -> Fetched:
    actual, published = _compare(target, digest)
    if local_file:
        verdict = "" if published or digest is None else f", not the published file ({actual}, published {digest})"
        _say(f"{target.name}: copied from {local_file}{verdict}")
    origin = "source" if local_file and not published else url
    sha256 = actual if actual.startswith("sha256:") else f"sha256:{files.digest(target)}"
    return Fetched(target.name, origin, target.stat().st_size, actual, sha256.partition(":")[2], published)


def _download(url: str, target: Path, digest: str | None, partial: Partial, sleep: Callable[[float], None]) -> None:
    _say(f"{url}: downloading" + (f", {partial.size} bytes are here already" if partial.size else ""))
    _insist(url, partial, sleep)
    actual, published = _compare(partial.path, digest)
    if digest is not None and not published:
        partial.remove()
        raise UserError(
            f"{url}: what came is {actual}, published is {digest}; run again, {_OR_PUT.format(target.name)}"
        )
    files.move(partial.path, target)
    partial.remove()


def _insist(url: str, partial: Partial, sleep: Callable[[float], None]) -> None:
    """Try until the partial file is whole; give up after `_TRIES` tries in a row that gained nothing.

    urllib3's own retries are not used for this: they know nothing of what has arrived, so they would count a busy
    server and a cut connection apart, and they wait as long as a server asks without a word to the user.
    """
    furthest, idle = partial.size, 0
    while True:
        try:
            headers = {"Accept-Encoding": "identity"} | partial.headers()
            with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
                return _receive(response, url, partial)
        except _InterruptedError as fault:
            message, wait_s = str(fault), fault.wait
        except requests.RequestException as fault:
            message, wait_s = _explain(fault), None
        idle = 1 if partial.size > furthest else idle + 1
        furthest = max(furthest, partial.size)
        wait = 2.0 ** (idle - 1) if wait_s is None else wait_s
        if idle == _TRIES or wait > _LONGEST_WAIT:
            later = f", and the server asks to wait {wait_s:.0f} s" if wait_s else ""
            raise UserError(f"{url}: cannot be downloaded ({message}{later}); {_GO_ON}, {_OR_PUT.format(partial.name)}")
        _say(f"{url}: {message}; trying again in {wait:g} s")
        sleep(wait)


_GO_ON = "run again to go on from what has arrived"
_OR_PUT = "or put {} into the folder named by download.source or CAPTIONING_SOURCE"


class _InterruptedError(Exception):
    """A try failed and the next may not. wait: seconds that the server asks for, or None."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def _receive(response: requests.Response, url: str, partial: Partial) -> None:
    """Bring the partial file to its end from one response. Raises _InterruptedError, or UserError if it is final."""
    status = response.status_code
    if status == 416 and partial.is_whole(response.headers):
        return
    if status == 416 or (status == 206 and not partial.continues(response.headers)):
        partial.remove()
        raise _InterruptedError("the file has changed on the server", wait=0)
    if status in _PASSING or status >= 500:
        raise _InterruptedError(f"HTTP {status} {response.reason}", _retry_after(response))
    if status not in (200, 206):
        raise UserError(f"{url}: HTTP {status} {response.reason}; {_OR_PUT.format(partial.name).removeprefix('or ')}")
    if status == 200:
        partial.begin(response.headers)
    _append(response, partial)


def _append(response: requests.Response, partial: Partial) -> None:
    length = response.headers.get("Content-Length")
    total = partial.size + int(length) if length else None
    response.raw.enforce_content_length = False  # else what came just before a cut is thrown away
    with tqdm(total=total, initial=partial.size, unit="B", unit_scale=True, desc=partial.name, disable=None) as bar:
        partial.append(response.iter_content(_PIECE), bar.update)
    if total is not None and partial.size < total:
        raise _InterruptedError("the connection was cut")


def _retry_after(response: requests.Response) -> float | None:
    """Seconds to wait as the server asks, by number or by date (RFC 9110 §10.2.3); None if it does not say."""
    try:
        return Retry().get_retry_after(response.raw)
    except InvalidHeader:
        return None


def _explain(fault: requests.RequestException) -> str:
    """What the user needs of an error of `requests`, whose own text is a paragraph."""
    kinds = {
        requests.exceptions.SSLError: "the server's certificate is refused",
        requests.exceptions.ProxyError: "no connection to the proxy",
        requests.Timeout: "no answer in time",
        requests.exceptions.ChunkedEncodingError: "the connection was cut",
        requests.ConnectionError: "no connection",
    }
    return next((text for kind, text in kinds.items() if isinstance(fault, kind)), type(fault).__name__)


def _say(text: str) -> None:
    tqdm.write(escaped(text), file=sys.stderr)
