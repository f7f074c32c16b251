"""Auxiliary heads on a trained encoder: they predict words and labels from its output for an image.

B images, C captions, D feature width, K labels, R regions, T tokens, V words.
"""

import math

import torch
from torch import Tensor, nn

from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.losses import Mean
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.labels import ImageLabels
from captioning.training.losses import label_loss, word_presence_loss
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.encoders.encoders import Encoder


class LabelHeads(nn.Module):
    """What the labels of an image, and of each of its regions, are read with: a linear map each.

    Without places in the labels, or without a grid of regions, there is no map for regions.
    """

    def __init__(self, encoder: Encoder, labels: ImageLabels) -> None:
        super().__init__()
        located, odds = labels.placed and encoder.grid is not None, labels.log_odds()
        self.image = _linear(encoder.dim, odds)
        self.region = _linear(encoder.dim, odds - math.log(encoder.regions)) if located else None
        self.weight: Tensor
        self.register_buffer("weight", labels.region_weight(encoder.regions), persistent=False)

    def forward(self, encoded: Encoded, *labels: Tensor) -> dict[str, Mean]:
        """Labels (B, K) and, where they are located, (B, R, K) → the losses of both heads."""
        losses = {"image_labels": label_loss(self.image(encoded.mean), labels[0])}
        if self.region is not None:
            losses["region_labels"] = label_loss(self.region(encoded.regions), labels[1], self.weight)
        return losses


def _linear(width: int, bias: Tensor) -> nn.Linear:
    """A linear map from `width`, which begins with this bias (K,)."""
    linear = nn.Linear(width, len(bias))
    with torch.no_grad():
        linear.bias.copy_(bias)
    return linear


class EncoderHeads(nn.Module):
    """A head that predicts which words occur, and heads for labels where the data set has any.

    word_presence, facts: the weights of their losses beside the captions'. An encoder of which no block is trained
    learns nothing from them: the weights are 0 then, and there are no heads for labels.
    """

    def __init__(
        self,
        training: EncoderTraining,
        vocabulary: Vocabulary,
        labels: ImageLabels | None = None,
        *,
        word_presence: float,
        facts: float = 0.0,
    ) -> None:
        super().__init__()
        encoder, labels = training.encoder, labels if training.trains else None
        self.presence = nn.Linear(encoder.dim, len(vocabulary))
        self.special = vocabulary.special
        self.labels = None if labels is None else LabelHeads(encoder, labels)
        self.word_presence, self.facts = (word_presence, facts) if training.trains else (0.0, 0.0)

    def parts(self) -> dict[str, nn.Module]:
        """The modules whose gradient norms are logged."""
        return {"presence": self.presence} | ({} if self.labels is None else {"heads": self.labels})

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor, *labels: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,), labels as `LabelHeads` reads them, or none → the losses, weighted."""
        presence = word_presence_loss(self.presence(encoded.mean), tokens, owner, self.special)
        losses = {"presence": _weighted(presence, self.word_presence)}
        if self.labels is not None and labels:
            losses |= {name: _weighted(loss, self.facts) for name, loss in self.labels(encoded, *labels).items()}
        return losses


def _weighted(loss: Mean, weight: float) -> Mean:
    return Mean(weight * loss.value, loss.size)
