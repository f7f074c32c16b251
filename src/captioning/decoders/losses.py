"""The caption loss, and what a loss is.

C captions, T tokens, V words.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from captioning.data.text.vocabulary import Special


class Mean(NamedTuple):
    """A loss that is a mean, and of how many positions, so that the parts of a batch can be put together."""

    value: Tensor
    size: Tensor


def caption_loss(logits: Tensor, tokens: Tensor, special: Special) -> Mean:
    """Cross-entropy a word under teacher forcing, in nats, averaged over words and `<eos>`.

    logits (C, T - 1, V) say what follows each of tokens (C, T) but the last; padding does not count.
    """
    targets = tokens[:, 1:].flatten()
    loss = functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=special.pad)
    return Mean(loss, (targets != special.pad).sum())
