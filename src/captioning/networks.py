"""What is trained: a decoder on stored features, or encoder and decoder together.

Both read their input from the feature store, plan their batches, encode, and return named losses, so that
one loop trains either.

B images, C captions, D feature width, R regions, S side in pixels, T tokens, V words.
"""

import numpy as np
from torch import Tensor, nn

from captioning import batches, decoding
from captioning.decoders.base import Decoder, Encoded
from captioning.encoders import Encoder
from captioning.features import FeatureStore
from captioning.losses import Mean, caption_loss, word_presence_loss
from captioning.splits import EncodedCaptions


def teacher_forcing(
    decoder: Decoder, encoded: Encoded, tokens: Tensor, owner: Tensor, label_smoothing: float
) -> dict[str, Mean]:
    """tokens (C, T), owner (C,) → the caption loss, and those that the decoder has of its own."""
    logits, own = decoder.teach(encoded, tokens, owner)  # (C, T - 1, V)
    caption = caption_loss(logits, tokens, label_smoothing)
    return {"caption": caption} | {name: Mean(value, caption.size) for name, value in own.items()}


class OnFeatures(nn.Module):
    """A decoder on the stored features of a frozen encoder."""

    def __init__(self, decoder: Decoder, label_smoothing: float) -> None:
        super().__init__()
        self.decoder = decoder
        self.label_smoothing = label_smoothing

    def parts(self) -> dict[str, nn.Module]:
        """The modules whose gradient norms are logged."""
        return {f"decoder_{name}": module for name, module in self.decoder.named_children()}

    def plan(self, captions: EncodedCaptions, size: int, seed: tuple[int, ...]) -> list[np.ndarray]:
        """Batches of captions of like length."""
        return batches.by_length(captions, size, seed)

    def read(self, store: FeatureStore, rows: np.ndarray) -> tuple[Tensor, ...]:
        """Stored features of `rows`: mean (B, D) and, where they are stored, regions (B, R, D)."""
        return decoding.stored_features(store, rows)

    def encode(self, inputs: tuple[Tensor, ...]) -> Encoded:
        """Stored features are what a decoder reads."""
        return decoding.encode_features(inputs)

    def forward(self, inputs: tuple[Tensor, ...], tokens: Tensor, owner: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,) → the losses of the step."""
        return teacher_forcing(self.decoder, self.encode(inputs), tokens, owner, self.label_smoothing)


class EndToEnd(nn.Module):
    """Encoder and decoder trained together, with a head that says which words occur (see `losses`)."""

    def __init__(
        self, encoder: Encoder, decoder: Decoder, vocabulary_size: int, label_smoothing: float, word_presence: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.presence = nn.Linear(encoder.dim, vocabulary_size)
        self.label_smoothing = label_smoothing
        self.word_presence = word_presence

    def parts(self) -> dict[str, nn.Module]:
        """The modules whose gradient norms are logged."""
        decoder = {f"decoder_{name}": module for name, module in self.decoder.named_children()}
        return {"encoder": self.encoder, **decoder, "presence": self.presence}

    def plan(self, captions: EncodedCaptions, size: int, seed: tuple[int, ...]) -> list[np.ndarray]:
        """Batches of images with all of their captions."""
        return batches.by_image(captions, size, seed)

    def read(self, store: FeatureStore, rows: np.ndarray) -> tuple[Tensor, ...]:
        """Stored pixels of `rows`, uint8 (B, 3, S, S)."""
        return decoding.stored_pixels(store, rows)

    def encode(self, inputs: tuple[Tensor, ...]) -> Encoded:
        """Pixels → regions (B, R, D) and their mean (B, D)."""
        return decoding.encode_pixels(self.encoder, inputs)

    def forward(self, inputs: tuple[Tensor, ...], tokens: Tensor, owner: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,) → the losses of the step."""
        encoded = self.encode(inputs)
        losses = teacher_forcing(self.decoder, encoded, tokens, owner, self.label_smoothing)
        presence = word_presence_loss(self.presence(encoded.mean), tokens, owner)
        return losses | {"presence": Mean(self.word_presence * presence.value, presence.size)}
