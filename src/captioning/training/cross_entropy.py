"""The phase of cross-entropy: each word of the training captions is predicted from the true ones before it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from captioning.training import batches, optimization
from captioning.training.network import Network
from captioning.training.phase import Losses, Setup, Validated
from captioning.vision.features.placement import to_device


@dataclass(frozen=True)
class CrossEntropyOptions:
    """How long and how fast; the section `train` of params.yaml explains each."""

    seed: int
    epochs: int
    batch_size: int
    captions_per_image: int | None
    weight_decay: float
    warmup_steps: int


class CrossEntropy:
    """Teacher forcing on the training captions. `modules` are what is trained, with peak learning rates."""

    lowest: str | None = None
    remedy = "lower train.optimizer.lr or train.encoder.lr, or raise train.optimizer.warmup_steps"

    def __init__(self, setup: Setup, modules: Sequence[tuple[nn.Module, float]], options: CrossEntropyOptions) -> None:
        self.module, self.epochs = setup.network, options.epochs
        self._setup, self._modules, self._options = setup, modules, options

    def enter(self, network: Network) -> None:
        """The encoder learns, at the latest from its epoch on."""
        network.enter()

    def leave(self, network: Network) -> None:
        """Nothing was switched off."""
        network.leave()

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW."""
        return optimization.adamw(self._modules, self._options.weight_decay)

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """Warm-up, then half a cosine over this phase."""
        return optimization.cosine(step, self.epochs * steps_per_epoch, self._options.warmup_steps)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Captions, as the inputs want them."""
        options, captions = self._options, self._setup.data.train
        seed = (options.seed, epoch)
        return self._setup.inputs.plan(captions, options.batch_size, seed, options.captions_per_image)

    def prepare(self, epoch: int) -> None:
        """Dropout is on, and BatchNorm reads the batch where it may."""
        self.module.begin_captions(epoch + 1)

    def process_part(self, items: np.ndarray, rank: int, world: int) -> tuple[np.ndarray, float]:
        """Captions go with their image."""
        return batches.process_part(self._setup.data.train, items, rank, world)

    def losses(self, wrapped: nn.Module, part: np.ndarray, epoch: int) -> Losses:  # noqa: ARG002 (`prepare` knows)
        """The network's own."""
        _, inputs, data, fabric = self._setup
        batch = batches.collate(data.train, part, data.vocabulary.special)
        tokens, owner = to_device((batch.tokens, batch.owner), fabric.device)
        labels = inputs.labels(batch.rows, fabric.device)
        drawn = inputs.draw(batch.rows, fabric.device)
        return Losses(wrapped(drawn, tokens, owner, *labels), {}, len(batch.rows))

    def validate(self, captions: Callable[[], Validated]) -> Validated:
        """Captions, which are what it trains."""
        return captions()
