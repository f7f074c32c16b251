"""Validation in training: the loss under teacher forcing, and free-running captions with their scores.

Captions are decoded greedily, by the code that `evaluate` runs.
"""

import numpy as np
import torch

from captioning.captioner.decoding import decode_rows
from captioning.search import SearchOptions
from captioning.system import distributed
from captioning.training import batches
from captioning.training.phase import Setup
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.features.placement import to_device


class Validation:
    """Validates `network` in its current state; processes take batches in turns."""

    def __init__(self, setup: Setup, batch_size: int) -> None:
        self._network, self._inputs, self._data, self._fabric = setup
        self._batch_size = batch_size

    @torch.inference_mode()
    def run(self) -> tuple[dict[str, float], list[str]]:
        """Scalars under `val/`, and a caption for each validation image."""
        self._network.eval()
        scalars, data = {"val/loss/caption": self._loss()}, self._data
        greedy = SearchOptions(beam_size=1, max_words=data.longest)
        decoder, vocabulary = self._network.decoder, data.vocabulary
        ranked = decode_rows(self._encode, decoder, vocabulary, data.val_rows, greedy, self._batch_size, self._fabric)
        captions = [best.text for (best,) in ranked]

        def scores() -> dict[str, float]:
            corpus = data.score(dict(zip(data.val_ids, captions, strict=True)))
            return scalars | {f"val/{name}": value for name, value in corpus.items()}

        return distributed.once(self._fabric, scores), captions

    def _loss(self) -> float:
        """Nats a word of the validation captions."""
        total, words = 0.0, 0
        plan = self._inputs.plan(self._data.val, self._batch_size, (0,))
        for numbers in plan[self._fabric.global_rank :: self._fabric.world_size]:
            batch = batches.collate(self._data.val, numbers, self._data.vocabulary.special)
            inputs = self._inputs.read(batch.rows, self._fabric.device)
            tokens, owner = to_device((batch.tokens, batch.owner), self._fabric.device)
            count = int((self._data.val.lengths[numbers] - 1).sum())
            total += self._network(inputs, tokens, owner)["caption"].value.item() * count
            words += count
        parts = distributed.gather(self._fabric, (total, words))
        return float(sum(part for part, _ in parts) / sum(count for _, count in parts))

    def _encode(self, rows: np.ndarray) -> Encoded:
        with self._fabric.autocast():
            inputs = self._inputs.read(rows, self._fabric.device)
            return self._network.encode(self._network.through_frozen_blocks(inputs))
