"""Downloads from a server on this machine that misbehaves: nothing is taken for whole that is not."""

import hashlib
import queue
import random
import re
import resource
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from captioning.data.network import partial
from captioning.data.network.downloads import Fetched, fetch
from captioning.system.errors import UserError
from captioning.system.locks import alone
from tests.servers import Reply, Server

BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"
SHA256 = hashlib.sha256(BODY).hexdigest()
PUT = r"put a\.zip into the folder named by download\.source or CAPTIONING_SOURCE"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Place:
    """A cache, a target and the waits of one test."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.target, self.source = folder / "cache", folder / "out" / "a.zip", folder / "source"
        self.waits: list[float] = []

    def fetch(self, url: str, digest: str | None = MD5, source: Path | None = None) -> Fetched:
        return fetch(
            url,
            self.target,
            digest=digest,
            source=source,
            cache=self.cache,
            subfolder="photos",
            sleep=self.waits.append,
        )

    def kept(self) -> list[str]:
        """Files in the cache, without those that processes wait at."""
        return sorted(path.name for path in self.cache.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def fails(place: Place, server: Server, said: str, digest: str | None = MD5) -> str:
    """Fetching fails with one line, and nothing is left under the final name."""
    with pytest.raises(UserError, match=said) as caught:
        place.fetch(server.url("a.zip"), digest)
    assert "\n" not in str(caught.value)
    assert not place.target.exists()
    return str(caught.value)


@pytest.mark.parametrize("digest", [MD5, f"sha256:{SHA256}", f"sha256-prefix:{SHA256[:8]}"])
def test_a_whole_file_is_checked_and_put_in_place(place: Place, digest: str) -> None:
    with Server(Reply(BODY)) as server:
        fetched = place.fetch(server.url("a.zip?raw=1"), digest)
    actual = MD5 if digest == MD5 else f"sha256:{SHA256}"
    assert fetched == Fetched("a.zip", server.url("a.zip?raw=1"), len(BODY), actual, SHA256, published=True)
    assert place.target.read_bytes() == BODY
    assert place.kept() == []
    assert "Range" not in server.seen[0].headers


def test_without_a_published_digest_the_file_is_taken_and_its_own_recorded(place: Place) -> None:
    with Server(Reply(BODY)) as server:
        fetched = place.fetch(server.url("a.zip"), None)
    assert (fetched.digest, fetched.published, fetched.origin) == (f"sha256:{SHA256}", False, server.url("a.zip"))


@pytest.mark.parametrize(
    "version", [{"etag": '"v1"'}, {"headers": {"Last-Modified": "Tue, 01 Oct 2013 00:00:00 GMT"}}, {}]
)
def test_a_cut_download_goes_on_where_it_stopped(place: Place, version: dict) -> None:  # type: ignore[type-arg]
    with Server(
        Reply(BODY, cut=100_000, **version), Reply(BODY, cut=100_000, **version), Reply(BODY, **version)
    ) as server:
        place.fetch(server.url("a.zip"))
    asked = [(request.headers.get("Range"), request.status, request.sent) for request in server.seen]
    assert asked == [(None, 200, 100_000), ("bytes=100000-", 206, 100_000), ("bytes=200000-", 206, 100_000)]
    expected = version.get("etag") or version.get("headers", {}).get("Last-Modified")
    assert [request.headers.get("If-Range") for request in server.seen] == [None, expected, expected]
    assert place.target.read_bytes() == BODY
    assert place.waits == [1, 1]  # each try gained something


def test_a_weak_etag_is_not_sent_as_if_range(place: Place) -> None:
    with Server(Reply(BODY, cut=100_000, etag='W/"v1"'), Reply(BODY, etag='W/"v1"')) as server:
        place.fetch(server.url("a.zip"))
    assert "If-Range" not in server.seen[1].headers
    assert server.seen[1].sent == 200_000


def test_the_next_run_goes_on_too(place: Place) -> None:
    with Server(Reply(BODY, cut=100_000), Reply(status=503), *[Reply(status=503)] * 4, Reply(BODY)) as server:
        fails(place, server, "run again to go on from what has arrived")
        assert place.kept() == ["a.zip.part", "a.zip.part.json"]
        place.fetch(server.url("a.zip"))
    assert server.seen[-1].headers["Range"] == "bytes=100000-"
    assert place.target.read_bytes() == BODY


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"url": 3}', "not JSON"])
def test_a_damaged_note_on_what_has_arrived_begins_the_download_anew(place: Place, text: str) -> None:
    with Server(Reply(BODY, cut=100_000), Reply(status=503), *[Reply(status=503)] * 4, Reply(BODY)) as server:
        fails(place, server, "run again to go on from what has arrived")
        (place.cache / "a.zip.part.json").write_text(text)
        place.fetch(server.url("a.zip"))
    assert "Range" not in server.seen[-1].headers
    assert place.target.read_bytes() == BODY


def broken_off(place: Place, server: Server, digest: str | None) -> Path:
    """The partial file of a download that was cut and then given up."""
    fails(place, server, "run again to go on from what has arrived", digest)
    return place.cache / "a.zip.part"


GIVEN_UP = [Reply(status=503)] * 5
LAST_MODIFIED = {"Last-Modified": "Tue, 01 Oct 2013 00:00:00 GMT"}


@pytest.mark.parametrize("digest", [MD5, None])
def test_a_partial_file_with_a_flipped_bit_is_fetched_anew(place: Place, digest: str | None) -> None:
    with Server(Reply(BODY, cut=100_000, etag='"v1"'), *GIVEN_UP, Reply(BODY, etag='"v1"')) as server:
        part = broken_off(place, server, digest)
        data = bytearray(part.read_bytes())
        data[50_000] ^= 1
        part.write_bytes(data)
        place.fetch(server.url("a.zip"), digest)
    assert "Range" not in server.seen[-1].headers
    assert place.target.read_bytes() == BODY


@pytest.mark.parametrize("left", [b"", b"x" * 70_000, b"\0" * 250_000], ids=["nothing", "some", "much"])
def test_what_was_written_after_the_last_note_is_cut_off(place: Place, left: bytes) -> None:
    """A killed process has not noted it, and power may have taken some of it."""
    with Server(Reply(BODY, cut=100_000, etag='"v1"'), *GIVEN_UP, Reply(BODY, etag='"v1"')) as server:
        part = broken_off(place, server, None)
        with part.open("ab") as stream:
            stream.write(left)
        place.fetch(server.url("a.zip"), None)
    assert server.seen[-1].headers["Range"] == "bytes=100000-"
    assert place.target.read_bytes() == BODY


def test_a_partial_file_that_lost_its_end_is_fetched_anew(place: Place) -> None:
    with Server(Reply(BODY, cut=100_000, etag='"v1"'), *GIVEN_UP, Reply(BODY, etag='"v1"')) as server:
        part = broken_off(place, server, None)
        part.write_bytes(part.read_bytes()[:99_999])
        place.fetch(server.url("a.zip"), None)
    assert "Range" not in server.seen[-1].headers
    assert place.target.read_bytes() == BODY


def test_what_has_arrived_is_noted_on_the_way(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a kill, after which nothing can be noted, costs a piece and not all."""
    monkeypatch.setattr(partial, "_NOTED", 1 << 17)
    notes: list[int] = []
    monkeypatch.setattr(partial.Partial, "_write_note", lambda _self, size: notes.append(size))
    with Server(Reply(BODY)) as server:
        place.fetch(server.url("a.zip"), None)
    assert notes == [0, 1 << 17, 1 << 18, len(BODY)]


@pytest.mark.parametrize("version", [{}, {"etag": 'W/"v1"'}])
def test_without_any_digest_or_version_a_download_begins_anew(place: Place, version: dict) -> None:  # type: ignore[type-arg]
    """Else the beginning of one version could be joined to the end of another, and nothing would tell."""
    with Server(Reply(OTHER, cut=100_000, **version), Reply(BODY, **version)) as server:
        place.fetch(server.url("a.zip"), None)
    assert [request.headers.get("Range") for request in server.seen] == [None, None]
    assert place.target.read_bytes() == BODY


@pytest.mark.parametrize("version", [{"etag": '"v1"'}, {"headers": LAST_MODIFIED}])
def test_without_a_digest_a_download_goes_on_where_the_server_tells_its_version(place: Place, version: dict) -> None:  # type: ignore[type-arg]
    with Server(Reply(BODY, cut=100_000, **version), Reply(BODY, **version)) as server:
        place.fetch(server.url("a.zip"), None)
    assert [request.status for request in server.seen] == [200, 206]
    assert place.target.read_bytes() == BODY


@pytest.mark.parametrize("length", [200_000, 300_001])
def test_another_length_is_another_version(place: Place, length: int) -> None:
    """Of a server that gives each version the same date, and heeds no If-Range."""
    other, headers = random.Random(2).randbytes(length), LAST_MODIFIED
    with Server(
        Reply(OTHER, cut=100_000, headers=headers), Reply(other, headers=headers, heeds_if_range=False)
    ) as server:
        place.fetch(server.url("a.zip"), None)
    assert [request.status for request in server.seen] == [200, 206, 200]
    assert place.target.read_bytes() == other


def test_all_of_a_shorter_version_is_no_whole_file(place: Place) -> None:
    shorter = OTHER[:100_000]
    with Server(Reply(OTHER, cut=100_000, etag='"v1"'), Reply(shorter, etag='"v1"'), Reply(BODY)) as server:
        place.fetch(server.url("a.zip"), None)
    assert [request.status for request in server.seen] == [200, 416, 200]
    assert place.target.read_bytes() == BODY


def test_a_partial_file_of_another_url_is_not_continued(place: Place) -> None:
    with Server(Reply(OTHER, cut=100_000), *[Reply(status=503)] * 5, Reply(BODY)) as server:
        with pytest.raises(UserError):
            place.fetch(server.url("other/a.zip"))
        place.fetch(server.url("a.zip"))
    assert "Range" not in server.seen[-1].headers


def test_a_server_without_ranges_starts_again(place: Place) -> None:
    with Server(Reply(BODY, cut=100_000), Reply(BODY, ranges=False)) as server:
        place.fetch(server.url("a.zip"))
    assert [(request.status, request.sent) for request in server.seen] == [(200, 100_000), (200, 300_000)]
    assert place.target.read_bytes() == BODY


def test_a_server_without_ranges_that_always_cuts_is_given_up(place: Place) -> None:
    with Server(Reply(BODY, ranges=False, cut=100_000)) as server:
        fails(place, server, r"cannot be downloaded \(the connection was cut\)")
    assert len(server.seen) == 5


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_that_changed_on_the_server_is_fetched_anew(place: Place, heeds: bool) -> None:
    with Server(Reply(OTHER, cut=100_000, etag='"v1"'), Reply(BODY, etag='"v2"', heeds_if_range=heeds)) as server:
        place.fetch(server.url("a.zip"))
    assert [request.status for request in server.seen] == ([200, 200] if heeds else [200, 206, 200])
    assert place.target.read_bytes() == BODY


def test_a_download_that_was_whole_but_not_in_place_is_not_fetched_again(place: Place) -> None:
    with Server(Reply(BODY, cut=300_000, headers={"Content-Length": "400000"}), Reply(BODY)) as server:
        place.fetch(server.url("a.zip"))
    assert [request.status for request in server.seen] == [200, 416]
    assert place.target.read_bytes() == BODY


def test_a_partial_file_longer_than_the_file_is_thrown_away(place: Place) -> None:
    with Server(Reply(OTHER + OTHER, cut=400_000), Reply(BODY)) as server:
        place.fetch(server.url("a.zip"))
    assert [request.status for request in server.seen] == [200, 416, 200]
    assert place.target.read_bytes() == BODY


def test_a_busy_server_is_asked_again_later_and_later(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with Server(*[Reply(status=503)] * 4, Reply(BODY)) as server:
        place.fetch(server.url("a.zip"))
    assert place.waits == [1, 2, 4, 8]
    assert "HTTP 503 Service Unavailable; trying again in 8 s" in capsys.readouterr().err


def test_a_server_that_stays_busy_is_given_up(place: Place) -> None:
    with Server(Reply(status=503)) as server:
        fails(place, server, rf"a\.zip: cannot be downloaded \(HTTP 503 Service Unavailable\); run again .*, or {PUT}")
    assert len(server.seen) == 5


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_heeded(place: Place, status: int) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    waits = [{"Retry-After": said} for said in ("7", date, "soon", "Tue, 01 Oct 2013 00:00:00 GMT")]
    with Server(*[Reply(status=status, headers=headers) for headers in waits], Reply(BODY)) as server:
        place.fetch(server.url("a.zip"))
    assert place.waits == [7, pytest.approx(100, abs=5), 4, 0]


def test_a_server_that_asks_for_an_hour_ends_the_run(place: Place) -> None:
    with Server(Reply(status=503, headers={"Retry-After": "3600"})) as server:
        fails(place, server, r"Service Unavailable, and the server asks to wait 3600 s")
    assert (len(server.seen), place.waits) == (1, [])


@pytest.mark.parametrize(("status", "said"), [(404, "Not Found"), (403, "Forbidden"), (410, "Gone")])
def test_a_refusal_is_final(place: Place, status: int, said: str) -> None:
    with Server(Reply(status=status)) as server:
        fails(place, server, rf"{re.escape(server.url('a.zip'))}: HTTP {status} {said}; {PUT}")
    assert (len(server.seen), place.waits) == (1, [])


def test_a_wrong_digest_is_refused_and_the_next_run_starts_afresh(place: Place) -> None:
    other = f"md5:{hashlib.md5(OTHER).hexdigest()}"
    with Server(Reply(OTHER), Reply(BODY)) as server:
        url = re.escape(server.url("a.zip"))
        fails(place, server, rf"{url}: what came is {other}, published is {MD5}; run again, or {PUT}")
        assert place.kept() == []
        place.fetch(server.url("a.zip"))
    assert "Range" not in server.seen[1].headers


def test_without_a_network_the_url_and_the_way_out_are_named(place: Place) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.zip"
        with pytest.raises(UserError, match=rf"{re.escape(url)}: cannot be downloaded \(no connection\); .* or {PUT}"):
            place.fetch(url)
    assert place.waits == [1, 2, 4, 8]


def test_a_server_that_falls_silent_is_not_waited_for_forever(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioning.data.network.downloads._TIMEOUT", (1.0, 0.02))
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match=r"\(no answer in time\)"):
        place.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip")
    assert len(place.waits) == 4


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may become longer than 100,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
def test_a_file_that_does_not_fit_is_said(place: Place) -> None:
    with Server(Reply(BODY)) as server:
        fails(place, server, r"a\.zip: File too large; make room or give access, and run again")


def test_a_folder_that_cannot_be_made_is_said(place: Place) -> None:
    place.cache.write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cache: File exists; make room or give access"):
        place.fetch("http://127.0.0.1:9/a.zip")


@pytest.mark.parametrize("folder", ["", "photos"])
def test_the_source_folder_comes_before_the_network(place: Place, folder: str) -> None:
    (place.source / folder).mkdir(parents=True)
    original = place.source / folder / "a.zip"
    original.write_bytes(BODY)
    with Server(Reply(status=404)) as server:
        fetched = place.fetch(server.url("a.zip"), source=place.source)
    assert server.seen == []
    assert fetched == Fetched("a.zip", server.url("a.zip"), len(BODY), MD5, SHA256, published=True)
    assert place.target.read_bytes() == original.read_bytes()
    assert place.target.stat().st_ino != original.stat().st_ino  # a copy: no later change reaches the original


def test_another_digest_in_the_source_folder_is_taken_recorded_and_said(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.source.mkdir()
    (place.source / "a.zip").write_bytes(OTHER)
    place.target.parent.mkdir()
    place.target.write_bytes(BODY)  # what an earlier run left does not hide it
    fetched = place.fetch("http://127.0.0.1:9/a.zip", source=place.source)
    other = f"md5:{hashlib.md5(OTHER).hexdigest()}"
    assert fetched == Fetched("a.zip", "source", len(OTHER), other, hashlib.sha256(OTHER).hexdigest(), published=False)
    assert (
        f"copied from {place.source}/a.zip, not the published file ({other}, published {MD5})"
        in capsys.readouterr().err
    )
    assert place.target.read_bytes() == OTHER


def test_what_is_not_in_the_source_folder_is_downloaded(place: Place) -> None:
    place.source.mkdir()
    with Server(Reply(BODY)) as server:
        assert place.fetch(server.url("a.zip"), source=place.source).published


def test_a_source_folder_that_does_not_exist_is_said(place: Place) -> None:
    with pytest.raises(UserError, match=r"download\.source = .*/source: no such folder; correct params\.yaml"):
        place.fetch("http://127.0.0.1:9/a.zip", source=place.source)


def test_a_target_with_the_published_digest_needs_no_network(place: Place) -> None:
    place.target.parent.mkdir()
    place.target.write_bytes(BODY)
    with Server(Reply(BODY)) as server:
        assert place.fetch(server.url("a.zip")).published
        assert server.seen == []
        place.target.write_bytes(OTHER)
        assert place.fetch(server.url("a.zip")).published
    assert len(server.seen) == 1


def test_two_at_once_do_not_write_into_the_same_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    said: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr("captioning.system.locks._say", said.put)
    with Server(Reply(BODY)) as server:
        other = threading.Thread(target=place.fetch, args=(server.url("a.zip"),))
        with alone(place.cache / ".a.zip.lock"):
            other.start()
            assert said.get(timeout=10) == f"waiting: another process works in {place.cache}"
            place.target.parent.mkdir()
            place.target.write_bytes(BODY)  # what it waited for: it has nothing left to do
        other.join()
    assert server.seen == []
