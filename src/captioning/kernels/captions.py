"""Captions side by side: a step of training then reads the regions of an image once, not once a caption."""

import torch
from torch import Tensor

from captioning import kernels


def each(owner: Tensor, images: int) -> int | None:
    """How many captions every image has, where all have as many, in order; None where it is not so, or not known.

    owner (C,): the row of each caption's image. It is not read on a GPU, which copies fast and would have to wait for
    the result, nor where `torch.compile` traces, whose graph cannot depend on it. The plain way is not to read it.
    """
    readable = owner.device.type == "cpu" and not torch.compiler.is_compiling() and not kernels.plain()
    if not readable or len(owner) % images:
        return None
    count = len(owner) // images
    return count if torch.equal(owner, torch.arange(images).repeat_interleave(count)) else None
