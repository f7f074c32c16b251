"""Which captions make a step, and the tensors of a step.

B images, C captions, T tokens.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import Special

_WINDOW = 32  # batches that are sorted by length together: long enough to pad little, short enough to mix


class Batch(NamedTuple):
    """The captions of one step."""

    rows: np.ndarray  # (B,) rows of images.csv, each once, ascending
    owner: Tensor  # (C,) the row of the caption's image in `rows`
    tokens: Tensor  # (C, T) `<bos> … <eos>`, padded


def by_length(captions: EncodedCaptions, size: int, seed: tuple[int, ...]) -> list[np.ndarray]:
    """All captions once, in batches of `size` with like lengths: for stored features, where no regions are read.

    Shuffled, then sorted by length within windows of several batches, then the batches are shuffled.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(captions))
    lengths = captions.lengths
    batches = []
    for start in range(0, len(order), size * _WINDOW):
        window = order[start : start + size * _WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[i : i + size] for i in range(0, len(window), size)]
    return [batches[index] for index in generator.permutation(len(batches))]


def by_image(
    captions: EncodedCaptions, size: int, seed: tuple[int, ...], per_image: int | None = None
) -> list[np.ndarray]:
    """All images once, each with all of its captions, about `size` captions a batch: for a trained encoder.

    per_image: at most so many captions of each image, drawn anew by each seed; None: all of them.
    The encoder then runs once an image. No batch has a single image, which BatchNorm could not normalise:
    a last one joins the batch before it.
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(captions.image, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(captions.image[order])) + 1)
    if per_image is not None:
        groups = [generator.permutation(group)[:per_image] for group in groups]
    images = max(2, round(size * len(groups) / sum(map(len, groups))))
    shuffled = generator.permutation(len(groups))
    cuts = list(range(0, len(groups), images))
    if len(groups) - cuts[-1] == 1 and len(cuts) > 1:
        cuts.pop()
    bounds = zip(cuts, [*cuts[1:], len(groups)], strict=True)
    return [np.concatenate([groups[index] for index in shuffled[a:b]]) for a, b in bounds]


def by_image_length(captions: EncodedCaptions, size: int, seed: tuple[int, ...]) -> list[np.ndarray]:
    """All images once, each with all of its captions side by side, about `size` captions a batch: for regions.

    What a decoder makes of the regions is then made once an image. As in `by_length`, windows of several batches are
    sorted, by the longest caption of each image.
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(captions.image, kind="stable")
    begins = np.flatnonzero(np.diff(captions.image[order], prepend=-1))
    groups, longest = np.split(order, begins[1:]), np.maximum.reduceat(captions.lengths[order], begins)
    count = max(1, round(size * len(groups) / len(captions)))
    shuffled = generator.permutation(len(groups))
    plan = []
    for start in range(0, len(shuffled), count * _WINDOW):
        window = shuffled[start : start + count * _WINDOW]
        window = window[np.argsort(longest[window], kind="stable")]
        plan += [np.sort(window[i : i + count]) for i in range(0, len(window), count)]
    return [np.concatenate([groups[group] for group in plan[index]]) for index in generator.permutation(len(plan))]


def image_batches(captions: EncodedCaptions, size: int, seed: tuple[int, ...]) -> list[np.ndarray]:
    """All images that have captions once, as rows of images.csv, `size` a batch: for captions that are drawn."""
    shuffled = np.random.default_rng(seed).permutation(np.unique(captions.image))
    return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]


def process_part(captions: EncodedCaptions, numbers: np.ndarray, rank: int, world: int) -> tuple[np.ndarray, float]:
    """The part of a step's captions, by their numbers (C,), that process `rank` of `world` takes; its weight, 0 or 1.

    The step's images are cut into `world` runs of like size, and captions go with their image, so that every image
    is encoded once. Where there are fewer images than processes, a single caption of weight 0 stands in for a part.
    """
    rows = np.array_split(np.unique(captions.image[numbers]), world)[rank]
    part = numbers[np.isin(captions.image[numbers], rows)]
    return (part, 1.0) if len(part) else (numbers[:1], 0.0)


def collate(captions: EncodedCaptions, numbers: np.ndarray, special: Special) -> Batch:
    """The captions of these numbers (C,) as tensors."""
    rows, owner = np.unique(captions.image[numbers], return_inverse=True)
    begin, end = captions.offsets[numbers, None], captions.offsets[numbers + 1, None]  # (C, 1)
    positions = begin + np.arange((end - begin).max())  # (C, T)
    inside = positions < end
    tokens = np.full(positions.shape, special.pad, dtype=np.int64)
    tokens[inside] = captions.tokens[positions[inside]]
    return Batch(rows, torch.from_numpy(owner), torch.from_numpy(tokens))
