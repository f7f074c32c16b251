"""Images changed at random in training, and which of them may be mirrored. The step's images are changed together.

Random numbers are torch's own on the images' device: a checkpoint holds their state, and each process has its own.

B images, N images of the store, P side in training, S side as stored, both in pixels.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import Vocabulary
from captioning.settings.training import Augmentation

_SIDES = frozenset(
    {"left", "right", "leftmost", "rightmost", "leftward", "rightward", "leftwards", "rightwards"}
    | {"lefthand", "righthand"}
)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow and torchvision
_NARROWEST, _WIDEST = 3 / 4, 4 / 3  # width / height of a crop (Szegedy et al. 2015, section 6)


def mirror_chances(captions: EncodedCaptions, images: int, vocabulary: Vocabulary, chance: float) -> np.ndarray:
    """How likely each of N images of the store is mirrored, float32 (N,): `chance`, or 0 where a caption forbids it.

    A caption that says left or right would be wrong of the mirrored image. Exchanging the two words would correct most
    of them, but not "a man who left", "right behind" or what is written in the image. So such images are not mirrored.
    """
    ids = [index for index, word in enumerate(vocabulary.words) if not _SIDES.isdisjoint(word.split("-"))]
    sided = np.add.reduceat(np.isin(captions.tokens, ids), captions.offsets[:-1]) > 0  # a caption each
    chances = np.full(images, chance, dtype=np.float32)
    chances[captions.image[sided]] = 0.0
    return chances


def augment(pixels: Tensor, chances: Tensor | None, options: Augmentation) -> Tensor:
    """uint8 (B, 3, S, S) → (B, 3, P, P), each image changed by a draw of its own; chances (B,) of being mirrored.

    What is off draws nothing and changes nothing; without chances nothing is mirrored, without a size P is S. A box
    that is enlarged shows things larger than they are in the whole image, and a smaller P undoes that (Touvron et
    al. 2019, "Fixing the train-test resolution discrepancy").
    """
    size = options.image_size or pixels.shape[3]
    if options.crop < 1 or size != pixels.shape[3]:
        pixels = cropped(pixels, boxes(len(pixels), options.crop, pixels.device), size)
    if chances is not None:
        pixels = mirrored(pixels, torch.rand(len(pixels), device=pixels.device) < chances)
    if options.colour:
        factors = 1 + options.colour * (2 * torch.rand(3, len(pixels), device=pixels.device) - 1)
        pixels = coloured(pixels, factors)
    return pixels


def boxes(count: int, least: float, device: torch.device) -> Tensor:
    """`count` random boxes in a square of side 1 → left, top, width, height, (count, 4).

    The area is uniform in [least, 1]; width / height is log-uniform between 3/4 and 4/3, as far as the box then fits.
    """
    area, shape, x, y = torch.rand(4, count, device=device)
    area = least + (1 - least) * area
    low, high = area.clamp(min=_NARROWEST).log(), (1 / area).clamp(max=_WIDEST).log()
    ratio = (low + (high - low) * shape).exp()
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    return torch.stack([x * (1 - width), y * (1 - height), width, height], dim=1)


def cropped(pixels: Tensor, boxes: Tensor, size: int) -> Tensor:
    """uint8 (B, 3, S, S), boxes (B, 4) as shares of S: left, top, width, height → each box, (B, 3, size, size).

    Bilinear, and without a filter against aliasing: a size of at least half of S needs none.
    """
    left, top, width, height = boxes.unbind(1)
    affine = boxes.new_zeros(len(boxes), 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = width, height
    affine[:, 0, 2], affine[:, 1, 2] = 2 * left + width - 1, 2 * top + height - 1  # the centre, from -1 to 1
    grid = functional.affine_grid(affine, [*pixels.shape[:2], size, size], align_corners=False)
    enlarged = functional.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
    return enlarged.round().to(torch.uint8)


def mirrored(pixels: Tensor, which: Tensor) -> Tensor:
    """uint8 (B, 3, S, S) → the same, with left and right exchanged where which (B,) is true."""
    return torch.where(which.view(-1, 1, 1, 1), pixels.flip(3), pixels)


def coloured(pixels: Tensor, factors: Tensor) -> Tensor:
    """uint8 (B, 3, S, S), factors (3, B) → the same with brightness, contrast and saturation times these, in turn.

    Contrast is the distance from the image's mean grey, saturation that from each pixel's own grey. Every step is
    cut at 0 and 255.
    """
    brightness, contrast, saturation = factors.view(3, -1, 1, 1, 1)
    bright = (pixels * brightness).clamp(0, 255)
    grey = _grey(bright).mean((1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    sharp = torch.lerp(grey, bright, contrast).clamp(0, 255)
    return torch.lerp(_grey(sharp), sharp, saturation).clamp(0, 255).round().to(torch.uint8)


def _grey(pixels: Tensor) -> Tensor:
    """(B, 3, S, S) → (B, 1, S, S)."""
    return (pixels * pixels.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
