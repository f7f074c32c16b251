"""The phase of a decoder that is fitted in one step: an epoch without steps of gradients.

B images, C captions, D feature width, I training images, T tokens.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from captioning.decoders.base import RetrievalDecoder
from captioning.training import batches
from captioning.training.network import Network
from captioning.training.phase import Losses, Setup, Validated
from captioning.vision.features.placement import to_device


class Fitting:
    """The phase. All of its work is done when it begins, with the encoder as the phase before has left it."""

    lowest: str | None = None
    epochs = 1
    remedy = "look at the features of the training images"

    def __init__(self, setup: Setup, decoder: RetrievalDecoder, batch_size: int) -> None:
        self.module = nn.Linear(1, 1)  # nothing learns, and processes and optimizers want something that could
        self._setup, self._decoder, self._batch_size = setup, decoder, batch_size

    @torch.no_grad()
    def enter(self, network: Network) -> None:
        """Encode the training images, and fit the decoder to them."""
        network.enter(encoder_learns=False)
        network.eval()
        _, _, data, fabric = self._setup
        captions = batches.collate(data.train, np.arange(len(data.train)), data.vocabulary.special)
        chunks = np.split(captions.rows, range(self._batch_size, len(captions.rows), self._batch_size))
        means = torch.cat([self._means(rows) for rows in chunks])  # (I, D)
        tokens, owner = to_device((captions.tokens, captions.owner), fabric.device)
        self._decoder.fit(means, tokens, owner)

    def _means(self, rows: np.ndarray) -> torch.Tensor:
        """Rows of the store (B,) → mean features (B, D), without augmentation."""
        network, inputs, _, fabric = self._setup
        return network.encode(network.through_frozen_blocks(inputs.read(rows, fabric.device))).mean

    def leave(self, network: Network) -> None:
        """Nothing was switched off."""
        network.leave()

    def optimizer(self) -> torch.optim.Optimizer:
        """One that never takes a step."""
        return torch.optim.SGD(self.module.parameters(), lr=0.0)

    def factor(self, step: int, steps_per_epoch: int) -> float:  # noqa: ARG002 (there is no step)
        """No rate."""
        return 0.0

    def plan(self, epoch: int) -> list[np.ndarray]:  # noqa: ARG002
        """No steps."""
        return []

    def prepare(self, epoch: int) -> None:
        """All is done."""

    def process_part(self, items: np.ndarray, rank: int, world: int) -> tuple[np.ndarray, float]:
        """Captions go with their image."""
        return batches.process_part(self._setup.data.train, items, rank, world)

    def losses(self, wrapped: nn.Module, part: np.ndarray, epoch: int) -> Losses:
        """Never called: no step has losses."""
        raise NotImplementedError

    def validate(self, captions: Callable[[], Validated]) -> Validated:
        """Captions, which are what it is fitted to."""
        return captions()
