"""What is trained: a decoder on stored features, or encoder and decoder together.

Both read their input from the feature store, plan their batches, encode, and return named losses, so that
one loop trains either.

B images, C captions, D feature width, R regions, S side in pixels, T tokens, V words.
"""

import numpy as np
import torch
from torch import Tensor, nn

from captioning import augmentation, batches, decoding
from captioning.augmentation import Augmentation
from captioning.decoders.base import Decoder, Encoded
from captioning.encoders import Encoder
from captioning.features import FeatureStore
from captioning.losses import Mean, caption_loss, word_presence_loss
from captioning.splits import EncodedCaptions
from captioning.teaching import Teacher


def teacher_forcing(
    decoder: Decoder, encoded: Encoded, tokens: Tensor, owner: Tensor, label_smoothing: float, teacher: Teacher
) -> dict[str, Mean]:
    """tokens (C, T), owner (C,) → the caption loss, and those that the decoder has of its own."""
    inputs = teacher.inputs(decoder, encoded, tokens, owner) if decoder.training else tokens[:, :-1]
    logits, own = decoder.teach(encoded, inputs, tokens[:, 1:], owner)  # (C, T - 1, V)
    caption = caption_loss(logits, tokens, label_smoothing)
    return {"caption": caption} | {name: Mean(value, caption.size) for name, value in own.items()}


class OnFeatures(nn.Module):
    """A decoder on the stored features of a frozen encoder.

    `chances` (N,): how likely training reads the mirrored picture of a row of the store; None: it never does.
    """

    def __init__(
        self,
        decoder: Decoder,
        label_smoothing: float,
        teacher: Teacher | None = None,
        chances: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.label_smoothing, self.teacher, self.chances = label_smoothing, teacher or Teacher(), chances

    def begin(self, epoch: int) -> None:
        """Told before each epoch, counted from 1: from now on it is trained."""
        self.teacher.begin(epoch)
        self.train()

    def rates(self) -> dict[str, float]:
        """What changes from epoch to epoch, for the epoch's row of scalars."""
        return self.teacher.rates()

    def parts(self) -> dict[str, nn.Module]:
        """The modules whose gradient norms are logged."""
        return {f"decoder_{name}": module for name, module in self.decoder.named_children()}

    def plan(self, captions: EncodedCaptions, size: int, seed: tuple[int, ...]) -> list[np.ndarray]:
        """Batches of captions of like length."""
        return batches.by_length(captions, size, seed)

    def read(self, store: FeatureStore, rows: np.ndarray) -> tuple[Tensor, ...]:
        """Stored features of `rows`: mean (B, D) and, where they are stored, regions (B, R, D).

        In training they may be those of the mirrored picture, by a draw for each row.
        """
        if self.chances is None or not self.training:
            return decoding.stored_features(store, rows)
        return decoding.drawn_features(store, rows, torch.rand(len(rows)).numpy() < self.chances[rows])

    def encode(self, inputs: tuple[Tensor, ...]) -> Encoded:
        """Stored features are what a decoder reads."""
        return decoding.encode_features(inputs)

    def forward(self, inputs: tuple[Tensor, ...], tokens: Tensor, owner: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,) → the losses of the step."""
        return teacher_forcing(self.decoder, self.encode(inputs), tokens, owner, self.label_smoothing, self.teacher)


class EndToEnd(nn.Module):
    """Encoder and decoder trained together, with a head that says which words occur (see `losses`).

    `start_epoch`: before it the encoder is a fixed function. `chances` (N,): how likely each row of the store is
    mirrored in training, where `augment` has a flip.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        vocabulary_size: int,
        label_smoothing: float,
        word_presence: float,
        teacher: Teacher | None = None,
        *,
        start_epoch: int = 1,
        augment: Augmentation | None = None,
        chances: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.presence = nn.Linear(encoder.dim, vocabulary_size)
        self.label_smoothing, self.teacher = label_smoothing, teacher or Teacher()
        self.word_presence = word_presence
        self.start_epoch, self.tuned = start_epoch, start_epoch == 1
        self.augment, self.chances = augment or Augmentation(), chances

    def begin(self, epoch: int) -> None:
        """Told before each epoch, counted from 1: from now on it is trained."""
        self.teacher.begin(epoch)
        self.tuned = epoch >= self.start_epoch
        self.train()

    def train(self, mode: bool = True) -> "EndToEnd":
        """As in torch; before `start_epoch` the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.train(mode and self.tuned)
        return self

    def rates(self) -> dict[str, float]:
        """What changes from epoch to epoch, for the epoch's row of scalars."""
        return self.teacher.rates()

    def parts(self) -> dict[str, nn.Module]:
        """The modules whose gradient norms are logged."""
        decoder = {f"decoder_{name}": module for name, module in self.decoder.named_children()}
        return {"encoder": self.encoder, **decoder, "presence": self.presence}

    def plan(self, captions: EncodedCaptions, size: int, seed: tuple[int, ...]) -> list[np.ndarray]:
        """Batches of images with all of their captions."""
        return batches.by_image(captions, size, seed)

    def read(self, store: FeatureStore, rows: np.ndarray) -> tuple[Tensor, ...]:
        """Stored pixels of `rows`, uint8 (B, 3, S, S), and in training, where some are mirrored, the chances (B,)."""
        pixels = decoding.stored_pixels(store, rows)
        if self.chances is None or not self.training:
            return pixels
        return (*pixels, torch.from_numpy(self.chances[rows]))

    def encode(self, inputs: tuple[Tensor, ...]) -> Encoded:
        """Pixels → regions (B, R, D) and their mean (B, D). In training the pictures are changed first."""
        pixels, *chances = inputs
        if self.training:
            pixels = augmentation.augment(pixels, chances[0] if chances else None, self.augment)
        with torch.set_grad_enabled(self.tuned and torch.is_grad_enabled()):
            return decoding.encode_pixels(self.encoder, (pixels,))

    def forward(self, inputs: tuple[Tensor, ...], tokens: Tensor, owner: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,) → the losses of the step."""
        encoded = self.encode(inputs)
        losses = teacher_forcing(self.decoder, encoded, tokens, owner, self.label_smoothing, self.teacher)
        presence = word_presence_loss(self.presence(encoded.mean), tokens, owner)
        return losses | {"presence": Mean(self.word_presence * presence.value, presence.size)}
