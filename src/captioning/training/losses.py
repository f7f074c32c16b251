"""The losses of the encoder's heads, each a function of logits and targets.

B images, C captions, T tokens, V words.
"""

import torch
from torch import Tensor
from torch.nn import functional

from captioning.data.text.vocabulary import Special
from captioning.decoders.losses import Mean


def word_presence_loss(logits: Tensor, tokens: Tensor, owner: Tensor, special: Special) -> Mean:
    """Which words occur in an image's captions: binary cross-entropy in nats a word that occurs.

    logits (B, V), tokens (C, T), owner (C,). The loss is summed over the vocabulary and divided by the number
    of words that occur, so that its size does not depend on V. It gives the encoder a gradient from the first
    step on (Fang et al. 2015, section 3, with every word an attribute).
    """
    present = torch.zeros_like(logits, dtype=torch.float32)
    present[owner.unsqueeze(1).expand_as(tokens), tokens] = 1.0
    present[:, list(special)] = 0.0
    return label_loss(logits, present)


def label_loss(logits: Tensor, present: Tensor, weight: Tensor | None = None) -> Mean:
    """Which labels an image has: binary cross-entropy in nats a label that is present.

    logits and present are (…, K); `present` is 1 for a label of the image, or of the region, else 0. The loss is
    summed over the labels and divided by the number of those present, so that its size does not depend on K.
    weight (K,): how much each label counts in both; None: 1.
    """
    total = functional.binary_cross_entropy_with_logits(logits.float(), present, weight, reduction="sum")
    occurring = present.sum() if weight is None else (present * weight).sum()
    return Mean(total / occurring.clamp(min=1.0), occurring)
