"""Counters of the server, as Prometheus reads them."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Measures:
    """Requests by route and status, their time, captioned images, and images that wait."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "captioning_requests", "Requests by route and status", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "captioning_request_seconds", "Time of requests", buckets=_SECONDS, registry=self._registry
        )
        self._images = Counter("captioning_images", "Images that were captioned", registry=self._registry)
        gauge = Gauge("captioning_waiting_images", "Images that wait for the model", registry=self._registry)
        gauge.set_function(waiting)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.observe(seconds)

    def captioned(self, images: int) -> None:
        """Count images."""
        self._images.inc(images)

    def exposition(self) -> tuple[bytes, str]:
        """All counters in Prometheus's text format, and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
