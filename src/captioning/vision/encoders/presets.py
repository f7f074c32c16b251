"""The properties of a backbone, which its family provides."""

from typing import NamedTuple, Protocol


class Sides(Protocol):
    """The sides of images that a backbone takes, in pixels.

    fixed: a backbone that was built for one side takes no other. As text: the sides, for a message.
    """

    @property
    def fixed(self) -> bool: ...

    def take(self, size: int) -> bool:
        """Is `size` one of them?"""


class Sizes(NamedTuple):
    """The sides of images that a backbone takes, in pixels: from `least` on, in steps of `step`, or `only` one.

    fixed: a backbone that was built for one side takes no other.
    """

    least: int
    step: int = 1
    only: int | None = None
    fixed: bool = False

    def take(self, size: int) -> bool:
        """Is `size` one of them?"""
        return size == self.only if self.only else size >= self.least and size % self.step == 0

    def __str__(self) -> str:
        if self.only:
            return f"{self.only}"
        return f"{self.least} and more" if self.step == 1 else f"multiples of {self.step}"


class Preset(NamedTuple):
    """What the published weights of a backbone were trained with.

    image_size, resize: side of an image, and the shorter side ahead of the centre crop, pixels. interpolation:
    `bilinear` or `bicubic`. mean, std: of the channels, 0 to 1. url: of the published file of weights, under the
    library's own names; None: there is none. file: its name here, which may end in digits of its sha256.
    """

    image_size: int
    resize: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    url: str | None
    file: str
