"""What a training goes through: phases, each with its own step, optimizer and learning rate over time.

Defines the `Phase` protocol and the cross-entropy phase; `self_critical` has the other phase. The trainer depends only
on the protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import Vocabulary
from captioning.metrics import References
from captioning.training import batches, optimization
from captioning.training.losses import Mean
from captioning.training.networks import EndToEnd, OnFeatures
from captioning.vision.features.placement import to_device
from captioning.vision.features.store import FeatureStore

Network = OnFeatures | EndToEnd


@dataclass(frozen=True)
class Data:
    """What a training reads. `val_rows` (N,) are rows of the store, `val_ids` the ids of their references."""

    train: EncodedCaptions
    val: EncodedCaptions
    store: FeatureStore
    val_rows: np.ndarray
    val_ids: list[int]
    references: References[int]
    vocabulary: Vocabulary

    @property
    def longest(self) -> int:
        """Words of the longest training caption, `<eos>` counted and `<bos>` not."""
        return int(self.train.lengths.max()) - 1


class Losses(NamedTuple):
    """What a step gives: losses, whose sum is differentiated, and means that are only told; and how many images."""

    minimised: dict[str, Mean]
    told: dict[str, Mean]
    images: int


class Phase(Protocol):
    """The seam. A step's `chosen` is what `plan` has of it; several processes take a part each."""

    epochs: int
    scored: bool  # whether captions are validated after each epoch; if not, the last epoch is kept
    remedy: str  # what to do when a loss is not finite

    @property
    def module(self) -> nn.Module:
        """What processes and compilers wrap, and `losses` calls."""

    def optimizer(self) -> torch.optim.Optimizer:
        """A new one, whose groups have their peak rate as `peak`."""

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate at a step of the phase, as a share of its peak."""

    def plan(self, epoch: int) -> list[np.ndarray]:
        """What each step of an epoch takes."""

    def prepare(self, epoch: int) -> None:
        """Put the network into the mode of this phase, before one of its epochs, counted from 0."""

    def rates(self) -> dict[str, float]:
        """What else changes from epoch to epoch, for the epoch's row of scalars."""

    def share(self, chosen: np.ndarray, rank: int, world: int) -> tuple[np.ndarray, float]:
        """The part of a step that process `rank` of `world` takes, and its weight: 0 for a stand-in, else 1."""

    def losses(self, wrapped: nn.Module, part: np.ndarray, epoch: int) -> Losses:
        """The losses of a part, through `module` as it was wrapped."""


@dataclass(frozen=True)
class CrossEntropyOptions:
    """How long and how fast; the section `train` of params.yaml says what each means."""

    seed: int
    epochs: int
    batch_size: int
    captions_per_image: int | None
    weight_decay: float
    warmup_steps: int


class CrossEntropy:
    """Teacher forcing on the training captions. `modules` are what is trained, with peak learning rates."""

    scored = True
    remedy = "lower train.optimizer.lr or train.encoder.lr, or raise train.optimizer.warmup_steps"

    def __init__(
        self,
        network: Network,
        modules: Sequence[tuple[nn.Module, float]],
        data: Data,
        options: CrossEntropyOptions,
        fabric: Fabric,
    ) -> None:
        self.module, self.epochs = network, options.epochs
        self._modules, self._data, self._options, self._fabric = modules, data, options, fabric

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW."""
        return optimization.adamw(self._modules, self._options.weight_decay)

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """Warm-up, then half a cosine over this phase."""
        return optimization.cosine(step, self.epochs * steps_per_epoch, self._options.warmup_steps)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Captions, as the network wants them."""
        options = self._options
        return self.module.plan(self._data.train, options.batch_size, (options.seed, epoch), options.captions_per_image)

    def prepare(self, epoch: int) -> None:
        """Dropout is on, BatchNorm reads the batch where it may, and the teacher has the share of this epoch."""
        self.module.begin(epoch + 1)

    def rates(self) -> dict[str, float]:
        """The teacher's."""
        return self.module.teacher.rates()

    def share(self, chosen: np.ndarray, rank: int, world: int) -> tuple[np.ndarray, float]:
        """Captions go with their image."""
        return batches.share(self._data.train, chosen, rank, world)

    def losses(self, wrapped: nn.Module, part: np.ndarray, epoch: int) -> Losses:  # noqa: ARG002 (`prepare` knows)
        """The network's own."""
        batch = batches.collate(self._data.train, part)
        inputs = self.module.draw(self._data.store, batch.rows, self._fabric.device)
        tokens, owner = to_device((batch.tokens, batch.owner), self._fabric.device)
        targets = self.module.targets(batch.rows, self._fabric.device)
        return Losses(wrapped(inputs, tokens, owner, *targets), {}, len(batch.rows))
