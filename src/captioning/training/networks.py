"""What is trained: a decoder on stored features, or encoder and decoder together.

Both read their input from the feature store, draw what a step sees of it, plan their batches, encode, and return
named losses, so that one loop trains either.

B images, C captions, D feature width, R regions, S side in pixels, T tokens, V words.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.decoders.base import AttendingDecoder, Decoder
from captioning.kernels import convolutions
from captioning.training import batches
from captioning.training.encoder import augmentation
from captioning.training.encoder.augmentation import Augmentation
from captioning.training.encoder.division import Divided, divide
from captioning.training.encoder.fine_tuning import NONE, train_from
from captioning.training.labels import ImageLabels
from captioning.training.losses import Mean, caption_loss, label_loss, word_presence_loss
from captioning.training.scheduled_sampling import Teacher
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features import encodings
from captioning.vision.features.placement import moved, to_device
from captioning.vision.features.store import FeatureStore


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
        """Told before each epoch of cross-entropy, counted from 1."""
        self.teacher.begin(epoch)
        self.train()

    def parts(self) -> dict[str, nn.Module]:
        """The modules whose gradient norms are logged."""
        return {f"decoder_{name}": module for name, module in self.decoder.named_children()}

    def plan(
        self,
        captions: EncodedCaptions,
        size: int,
        seed: tuple[int, ...],
        per_image: int | None = None,  # noqa: ARG002 (a frozen encoder costs nothing, so all captions are read)
    ) -> list[np.ndarray]:
        """Batches of captions of like length; where the decoder attends, of images with all of their captions."""
        attends = isinstance(self.decoder, AttendingDecoder)
        return (batches.by_image_length if attends else batches.by_length)(captions, size, seed)

    def read(self, store: FeatureStore, rows: np.ndarray) -> tuple[Tensor, ...]:
        """Stored features of `rows`: mean (B, D) and, where they are stored, regions (B, R, D)."""
        return encodings.stored_features(store, rows)

    def draw(self, store: FeatureStore, rows: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:
        """As `read`, on `device`, for a step of training: those of the mirrored picture by a draw for each row."""
        if self.chances is None:
            return to_device(self.read(store, rows), device)
        mirrored = torch.rand(len(rows)).numpy() < self.chances[rows]
        return to_device(encodings.drawn_features(store, rows, mirrored), device)

    def frozen(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Stored features are what a frozen encoder made of the pictures."""
        return inputs

    def encode(self, inputs: tuple[Tensor, ...]) -> Encoded:
        """Stored features are what a decoder reads."""
        return encodings.encode_features(inputs)

    def targets(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:  # noqa: ARG002
        """What `forward` takes beside the captions of a step: nothing."""
        return ()

    def forward(self, inputs: tuple[Tensor, ...], tokens: Tensor, owner: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,) → the losses of the step."""
        return teacher_forcing(self.decoder, self.encode(inputs), tokens, owner, self.label_smoothing, self.teacher)


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
    made = nn.Linear(width, len(bias))
    with torch.no_grad():
        made.bias.copy_(bias)
    return made


class EndToEnd(nn.Module):
    """Encoder and decoder trained together, with a head that says which words occur (see `losses`).

    The head is there for the encoder, and has no weight where no block of it is trained. So are `heads` for the labels
    of images and regions, where the data set has `labels`; `facts` is their weight beside the captions.

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
        labels: ImageLabels | None = None,
        facts: float = 0.0,
    ) -> None:
        super().__init__()
        convolutions.quicken(encoder)
        self.encoder = encoder
        self.decoder = decoder
        self.presence = nn.Linear(encoder.dim, vocabulary_size)
        self.label_smoothing, self.teacher = label_smoothing, teacher or Teacher()
        learns = any(parameter.requires_grad for parameter in encoder.parameters())
        self.word_presence, self.fact_weight = (word_presence, facts) if learns else (0.0, 0.0)
        self.labels = labels if learns else None
        self.heads = None if self.labels is None else LabelHeads(encoder, self.labels)
        self.start_epoch, self.tuned = start_epoch, start_epoch == 1
        self.augment, self.chances = augment or Augmentation(), chances
        self.divided: Divided | None = None

    def begin(self, epoch: int) -> None:
        """Told before each epoch of cross-entropy, counted from 1."""
        self.teacher.begin(epoch)
        self.tuned = epoch >= self.start_epoch
        self.divide()
        self.train()

    def begin_labels(self) -> None:
        """Told before each epoch in which labels alone are learnt."""
        self.tuned = True
        self.divide()
        self.train()

    def divide(self) -> None:
        """From now on the frozen blocks run apart from the others. The network has its weights, and is in its place."""
        self.divided = self.divided or divide(self.encoder)

    def freeze(self) -> None:
        """From now on the encoder is a fixed function; once it is divided again, all of it runs apart."""
        train_from(self.encoder, NONE)
        self.divided = None

    def train(self, mode: bool = True) -> "EndToEnd":
        """As in torch; before `start_epoch` the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.train(mode and self.tuned)
        return self

    def parts(self) -> dict[str, nn.Module]:
        """The modules whose gradient norms are logged."""
        decoder = {f"decoder_{name}": module for name, module in self.decoder.named_children()}
        heads = {name: module for name, module in self.named_children() if name not in ("encoder", "decoder")}
        return {"encoder": self.encoder, **decoder, **heads}

    def plan(
        self, captions: EncodedCaptions, size: int, seed: tuple[int, ...], per_image: int | None = None
    ) -> list[np.ndarray]:
        """Batches of images with all of their captions, or with `per_image` of them."""
        return batches.by_image(captions, size, seed, per_image)

    def read(self, store: FeatureStore, rows: np.ndarray) -> tuple[Tensor, ...]:
        """Stored pixels of `rows`, uint8 (B, 3, S, S)."""
        return encodings.stored_pixels(store, rows)

    def draw(self, store: FeatureStore, rows: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:
        """As `read`, on `device`, for a step of training: each picture changed by a draw of its own."""
        (pixels,) = to_device(self.read(store, rows), device)
        chances = None if self.chances is None else moved(torch.from_numpy(self.chances[rows]), device)
        return (augmentation.augment(pixels, chances, self.augment),)

    def frozen(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pixels → what the frozen blocks make of them, once they run apart; until then, or without any, pixels."""
        return inputs if self.divided is None else self.divided.ahead(*inputs)

    def encode(self, inputs: tuple[Tensor, ...]) -> Encoded:
        """What `frozen` returned → regions (B, R, D) and their mean (B, D)."""
        with torch.set_grad_enabled(self.tuned and torch.is_grad_enabled()):
            if self.divided is None:
                return encodings.encode_pixels(self.encoder, inputs)
            regions = self.divided.regions(inputs)
            return Encoded(regions.mean(1), regions)

    def targets(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:
        """What `forward` takes beside the captions of the images in `rows`: labels, as `ImageLabels.of` has them."""
        return (
            ()
            if self.labels is None or not self.training
            else to_device(self.labels.of(rows, self.encoder.grid), device)
        )

    def forward(self, inputs: tuple[Tensor, ...], tokens: Tensor, owner: Tensor, *labels: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,), labels (B, K) and, where they are located, (B, R, K) → the losses of the step."""
        encoded = self.encode(self.frozen(inputs))
        losses = teacher_forcing(self.decoder, encoded, tokens, owner, self.label_smoothing, self.teacher)
        presence = word_presence_loss(self.presence(encoded.mean), tokens, owner)
        losses["presence"] = Mean(self.word_presence * presence.value, presence.size)
        if self.heads is not None and labels:
            found = self.heads(encoded, *labels).items()
            losses |= {name: Mean(self.fact_weight * loss.value, loss.size) for name, loss in found}
        return losses
