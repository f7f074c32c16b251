"""The output of an encoder, which decoders read.

B images, R regions, D feature width.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Encoded(NamedTuple):
    """The encoder's output for B images: always the mean, and the rest where there is any.

    A decoder that attends gives regions outside of `mask` no weight. `boxes` are x and y of the upper left corner and
    of the lower right one, as shares of the image's width and height. `tags` are ids of the vocabulary, those of all
    names of objects in a row, or of likely words, padded with `<pad>`.
    """

    mean: "Tensor"  # (B, D), over the regions in the mask, or over the whole image
    regions: "Tensor | None" = None  # (B, R, D), absent where no decoder asks for it
    mask: "Tensor | None" = None  # (B, R), bool: False where an image has fewer regions; absent: all have R
    boxes: "Tensor | None" = None  # (B, R, 4)
    tags: "Tensor | None" = None  # (B, L)

    def rows(self, rows: "Tensor | slice | list[int]") -> "Encoded":
        """The same of some of the images."""
        mean, *others = (None if part is None else part[rows] for part in self)
        assert mean is not None
        return Encoded(mean, *others)


def of_regions(regions: "Tensor", mask: "Tensor | None" = None) -> Encoded:
    """Regions (B, R, D), and which of them there are (B, R) → these and their mean."""
    if mask is None:
        return Encoded(regions.mean(1), regions)
    counted = mask.unsqueeze(2).to(regions)
    return Encoded((regions * counted).sum(1) / counted.sum(1).clamp(min=1.0), regions, mask)
