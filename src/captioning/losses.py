"""The losses of training, each a function of logits and targets.

B images, C captions, T tokens, V words.
"""

import torch
from torch import Tensor
from torch.nn import functional

from captioning.vocabulary import PAD, SPECIAL


def caption_loss(logits: Tensor, tokens: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy a word under teacher forcing, in nats, averaged over words and `<eos>`.

    logits (C, T - 1, V) say what follows each of tokens (C, T) but the last; padding does not count.
    `label_smoothing` of the target is spread over all words (Szegedy et al. 2016, section 7).
    """
    return functional.cross_entropy(
        logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD, label_smoothing=label_smoothing
    )


def word_presence_loss(logits: Tensor, tokens: Tensor, owner: Tensor) -> Tensor:
    """Which words occur in an image's captions: binary cross-entropy in nats a word that occurs.

    logits (B, V), tokens (C, T), owner (C,). The loss is summed over the vocabulary and divided by the number
    of words that occur, so that its size does not depend on V. It gives the encoder a gradient from the first
    step on (Fang et al. 2015, section 3, with every word an attribute).
    """
    present = torch.zeros_like(logits, dtype=torch.float32)
    present[owner.unsqueeze(1).expand_as(tokens), tokens] = 1.0
    present[:, : len(SPECIAL)] = 0.0
    total = functional.binary_cross_entropy_with_logits(logits.float(), present, reduction="sum")
    return total / present.sum()
