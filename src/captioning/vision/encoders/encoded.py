"""What an encoder says of images, and decoders read.

B images, R regions, D feature width.
"""

from typing import NamedTuple

from torch import Tensor


class Encoded(NamedTuple):
    """What the encoder says of B images."""

    mean: Tensor  # (B, D)
    regions: Tensor | None  # (B, R, D), absent where no decoder asks for it
