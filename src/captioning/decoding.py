"""Free-running captions for many images: what `train` validates with, and what `evaluate` scores.

B images, D feature width, R regions.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from captioning.decoders.base import Encoded
from captioning.search import SearchOptions, search
from captioning.vocabulary import Vocabulary

Encode = Callable[[np.ndarray], Encoded]
"""Rows of the feature store (B,) → what the encoder says of them."""


@torch.inference_mode()
def decode_rows(
    encode: Encode, decoder: nn.Module, vocabulary: Vocabulary, rows: np.ndarray, options: SearchOptions, batch_size: int
) -> list[str]:
    """One caption for each of `rows`, searched `batch_size` images at a time.

    No caption is fed back to the decoder but its own words: there is no teacher forcing here.
    """
    captions = []
    for start in range(0, len(rows), batch_size):
        found = search(decoder, encode(rows[start : start + batch_size]), options)
        captions += [vocabulary.decode(hypothesis.ids) for hypothesis in found]
    return captions
