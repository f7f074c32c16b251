"""What a training goes through: phases, each with its own step, optimizer and learning rate over time.

The trainer depends only on the `Phase` protocol; `labelling`, `pretraining`, `cross_entropy`, `self_critical` and
`fitting` have the phases.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from captioning.data.objects.beside import Beside
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.losses import Mean
from captioning.training.inputs import Inputs
from captioning.training.labels import ImageLabels
from captioning.training.network import Network
from captioning.vision.features.store import FeatureStore


@dataclass(frozen=True)
class Data:
    """What a training reads. `val_rows` (N,) are rows of the store, `val_ids` the ids of their images.

    `score`: from a caption of each of `val_ids` to the scores of all, by name.

    `labels`: what is in the training images; None where the data set does not record it, or nothing learns it.
    `beside`: what made the words or the captions of neighbours that the store has beside features.
    """

    train: EncodedCaptions
    val: EncodedCaptions
    store: FeatureStore
    val_rows: np.ndarray
    val_ids: list[int]
    score: Callable[[Mapping[int, str]], Mapping[str, float]]
    vocabulary: Vocabulary
    labels: ImageLabels | None = None
    beside: Beside | None = None

    @property
    def longest(self) -> int:
        """Words of the longest training caption, `<eos>` counted and `<bos>` not."""
        return int(self.train.lengths.max()) - 1


class Setup(NamedTuple):
    """What all phases work with, and validation too."""

    network: Network
    inputs: Inputs
    data: Data
    fabric: Fabric


class Losses(NamedTuple):
    """What a step gives: losses, whose sum is differentiated; means that are only logged; and how many images."""

    minimised: dict[str, Mean]
    logged: dict[str, Mean]
    images: int


Validated = tuple[dict[str, float], list[str]]
"""Scalars under `val/`, and a caption for each validation image, or none."""


class Phase(Protocol):
    """The seam. A step has `items`, captions or images, as `plan` gives them; several processes take a part each.

    The epoch that is kept of a phase is that with the best score of captions where `validate` scores them, that where
    the scalar `lowest` is lowest, or the last one.
    """

    epochs: int
    lowest: str | None
    remedy: str  # what to do when a loss is not finite

    @property
    def module(self) -> nn.Module:
        """What processes and compilers wrap, and `losses` calls."""

    def enter(self, network: Network) -> None:
        """The phase begins: called once, before `optimizer`. What learns in it is decided here."""

    def leave(self, network: Network) -> None:
        """The phase ends: what `enter` switched off is as it was."""

    def optimizer(self) -> torch.optim.Optimizer:
        """A new one, whose groups have their peak rate as `peak`."""

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate at a step of the phase, as a fraction of its peak."""

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The items of each step of an epoch, counted from 0 over all phases."""

    def prepare(self, epoch: int) -> None:
        """Put the network into the mode of an epoch, counted from 0 in this phase."""

    def process_part(self, items: np.ndarray, rank: int, world: int) -> tuple[np.ndarray, float]:
        """The part of a step that process `rank` of `world` takes, and its weight: 0 for a stand-in, else 1."""

    def losses(self, wrapped: nn.Module, part: np.ndarray, epoch: int) -> Losses:
        """The losses of a part, through `module` as it was wrapped."""

    def validate(self, captions: Callable[[], Validated]) -> Validated:
        """What is validated after an epoch. captions: says captions of the validation images, and scores them."""
