"""A phase of training ahead of the captions: the encoder learns what is in each image, and where.

A caption mentions a part of its image, and its loss reaches the encoder through a decoder that is not trained yet.
Labels are exact and are placed, so an encoder that starts from scratch learns them in a fraction of the steps
(as in the pretraining of attribute predictors: Fang et al. 2015, section 3; Wu et al. 2016).

B images, R regions, K labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from captioning.decoders.losses import Mean
from captioning.training import batches, optimization
from captioning.training.network import Network
from captioning.training.phase import Losses, Setup, Validated

_QUICK = {True: 6, False: 3}  # epochs for light backbones and others, of which each is long


def epochs(written: int | Literal["quick"], *, light: bool) -> int:
    """`train.labels.epochs`, of which `quick` depends on the backbone's weight (`backbones.is_light`)."""
    return _QUICK[light] if written == "quick" else written


class Labeller(nn.Module):
    """The encoder and the heads for labels of a network: what this phase trains."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        assert network.heads is not None
        self.encoder, self.heads = network.encoder, network.heads.labels
        self._encode, self._through_frozen_blocks = network.encode_grid, network.through_frozen_blocks

    def forward(self, inputs: tuple[Tensor, ...], *labels: Tensor) -> dict[str, Mean]:
        """Pixels, labels (B, K) and, where they are located, (B, R, K) → the losses of the step."""
        assert self.heads is not None
        losses: dict[str, Mean] = self.heads(self._encode(self._through_frozen_blocks(inputs)), *labels)
        return losses


@dataclass(frozen=True)
class LabellingOptions:
    """How long and how fast; the section `train` of params.yaml explains each."""

    seed: int
    label_epochs: int
    batch_size: int
    captions_per_image: int | None
    weight_decay: float
    warmup_steps: int


class Labelling:
    """The phase. Each image comes once an epoch; a step has as many images as one of the captions' phase.

    No caption is decoded in it: the last epoch is kept.
    """

    lowest: str | None = None
    remedy = "lower train.labels.lr, or raise train.optimizer.warmup_steps"

    def __init__(self, setup: Setup, modules: Sequence[tuple[nn.Module, float]], options: LabellingOptions) -> None:
        self.module, self.epochs = Labeller(setup.network), options.label_epochs
        self._setup, self._modules, self._options = setup, modules, options

    def enter(self, network: Network) -> None:
        """The encoder learns."""
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
        """One caption of each image, which stands for it."""
        options, captions = self._options, self._setup.data.train
        mean = len(captions) / len(np.unique(captions.image))
        size = round(options.batch_size / min(options.captions_per_image or mean, mean))
        return batches.by_image(captions, size, (options.seed, epoch), 1)

    def prepare(self, epoch: int) -> None:  # noqa: ARG002 (all epochs are alike)
        """All blocks that are trained learn from the first epoch on."""
        self._setup.network.begin_labels()

    def process_part(self, items: np.ndarray, rank: int, world: int) -> tuple[np.ndarray, float]:
        """A run of the step's images."""
        return batches.process_part(self._setup.data.train, items, rank, world)

    def losses(self, wrapped: nn.Module, part: np.ndarray, epoch: int) -> Losses:  # noqa: ARG002
        """Those of the heads."""
        _, inputs, data, fabric = self._setup
        rows = np.unique(data.train.image[part])
        drawn = inputs.draw(rows, fabric.device)
        return Losses(wrapped(drawn, *inputs.labels(rows, fabric.device)), {}, len(rows))

    def validate(self, captions: Callable[[], Validated]) -> Validated:  # noqa: ARG002
        """Nothing: no label is read at validation."""
        return {}, []
