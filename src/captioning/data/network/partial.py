"""What has arrived of a download: how much, of which version, and whether it is still what arrived."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from captioning.system.sealed import DamagedError, read_document, write_document

_PIECE = 1 << 16  # bytes
_NOTED = 16 << 20  # bytes, after which the digest of what has arrived is noted: a kill costs no more


class Partial:
    """What has arrived of a download, and beside it, in JSON, of which version of which URL, and its digest.

    checked: is the whole file compared with a published digest? If it is not, a download goes on only where the server
    tells one version from another.
    """

    def __init__(self, cache: Path, name: str, url: str, *, checked: bool) -> None:
        self.name, self.url = name, url
        self.path = cache / f"{name}.part"
        self._about, self._checked = cache / f"{name}.part.json", checked
        self._note = self._recorded()
        self._arrived = hashlib.sha256()
        if self._note.get("url") != url or not self._is_as_noted():
            self.remove()

    def _recorded(self) -> dict[str, Any]:
        """What is noted; nothing where that is not there or damaged, and the download begins anew."""
        try:
            return read_document(self._about, "the download begins anew")
        except DamagedError:
            return {}

    def _is_as_noted(self) -> bool:
        """Does the file begin with what is noted? What a killed process has left behind that is cut off."""
        left = self._note.get("bytes")
        if not isinstance(left, int) or self.size < left:
            return False
        with self.path.open("r+b") as stream:
            stream.truncate(left)
            while piece := stream.read(_PIECE):
                self._arrived.update(piece)
        return self._arrived.hexdigest() == str(self._note.get("arrived"))

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def headers(self) -> dict[str, str]:
        """Ask for the rest, if it is still the same version; of a version that nobody could tell, for all of it."""
        version = self._note.get("version")
        if not self.size or not (version or self._checked):
            return {}
        return {"Range": f"bytes={self.size}-"} | ({"If-Range": version} if version else {})

    def continues(self, headers: Mapping[str, str]) -> bool:
        """Does a 206 response go on where this ends, in the same version?"""
        same = headers.get("ETag") in (None, self._note["etag"])
        start, _, length = headers.get("Content-Range", "").partition("/")
        return same and start.startswith(f"bytes {self.size}-") and self._may_have(length)

    def is_whole(self, headers: Mapping[str, str]) -> bool:
        """Does a 416 response say that nothing is left?"""
        return headers.get("Content-Range") == f"bytes */{self.size}" and (
            self._checked or self._may_have(str(self.size))
        )

    def _may_have(self, length: str) -> bool:
        """Can the version that was noted have so many bytes in all? `*`: the server does not say."""
        return self._note["length"] is None or length in ("*", self._note["length"])

    def begin(self, headers: Mapping[str, str]) -> None:
        """Empty the file and note its version: a strong ETag or a date, as If-Range wants (RFC 9110 §13.1.5)."""
        etag = headers.get("ETag")
        version = headers.get("Last-Modified") if etag is None or etag.startswith("W/") else etag
        self.path.write_bytes(b"")
        self._arrived = hashlib.sha256()
        self._note = {"url": self.url, "etag": etag, "version": version, "length": headers.get("Content-Length")}
        self._write_note(0)

    def append(self, pieces: Iterable[bytes], arrived: Callable[[int], object]) -> None:
        """Write what comes at the end of the file. arrived: is called with each number of bytes."""
        size = noted = self.size
        with self.path.open("ab") as stream:
            try:
                for piece in pieces:
                    stream.write(piece)
                    self._arrived.update(piece)
                    size += len(piece)
                    arrived(len(piece))
                    if size - noted >= _NOTED:
                        stream.flush()
                        self._write_note(size)
                        noted = size
            finally:
                stream.flush()
                self._write_note(size)

    def _write_note(self, size: int) -> None:
        write_document(self._about, {**self._note, "bytes": size, "arrived": self._arrived.hexdigest()})

    def remove(self) -> None:
        """Forget what has arrived."""
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)
