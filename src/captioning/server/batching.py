"""Images that wait are captioned together: a bounded queue, and one thread that calls the model."""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captioning.models.python import Captioned, Model, SearchOptions
    from captioning.models.sources import Read


class FullError(Exception):
    """Too many images wait already."""


@dataclass
class _Job:
    image: "Read"
    options: "SearchOptions"
    future: "Future[Captioned]" = field(default_factory=Future)


class Batcher:
    """Captions images in the order in which they come, those together that wait and have the same options."""

    def __init__(self, model: "Model", *, most: int, waiting: int) -> None:
        """most: images of a batch. waiting: images that may wait."""
        self._model, self._most = model, most
        self._room = waiting
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._next: _Job | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="captioning", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images that wait, or are captioned now."""
        return self._jobs.qsize()

    def submit(self, images: Sequence["Read"], options: "SearchOptions") -> "list[Future[Captioned]]":
        """Put images into the queue: all of them, or none. Raises FullError when there is no room for them."""
        jobs = [_Job(image, options) for image in images]
        with self._lock:
            if self._closed or self._jobs.qsize() + len(jobs) > self._room:
                raise FullError
            for job in jobs:
                self._jobs.put(job)
        return [job.future for job in jobs]

    def close(self) -> None:
        """Caption what waits, and end. Nothing is taken any more."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._take()) is not None:
            batch = [job]
            while len(batch) < self._most and (other := self._like(job)) is not None:
                batch.append(other)
            self._caption([one for one in batch if one.future.set_running_or_notify_cancel()])

    def _take(self) -> _Job | None:
        """The next job; it is waited for. None: the end."""
        job, self._next = self._next, None
        return job if job is not None else self._jobs.get()

    def _like(self, job: _Job) -> _Job | None:
        """A job with the same options, if it is the next one that waits."""
        try:
            other = self._jobs.get_nowait()
        except queue.Empty:
            return None
        if other is None:
            self._jobs.put(None)  # the end stays the last: nothing is put after it
            return None
        if other.options == job.options:
            return other
        self._next = other
        return None

    def _caption(self, batch: list[_Job]) -> None:
        if not batch:
            return
        try:
            found = self._model.batch([job.image for job in batch], batch[0].options)
        except Exception as fault:
            for job in batch:
                job.future.set_exception(fault)
            return
        for job, captioned in zip(batch, found, strict=True):
            job.future.set_result(captioned)
