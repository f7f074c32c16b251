"""What a server accepts: bytes, pixels, images, waiting requests and time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of `captioning serve`.

    bytes: of a request's body. pixels: of an image. images: of a request. waiting: images that wait for the model;
    beyond that requests are refused with 429. seconds: that a request may take, from its first byte to its answer.
    """

    bytes: int = 64_000_000
    pixels: int = 50_000_000
    images: int = 32
    waiting: int = 128
    seconds: float = 30.0
