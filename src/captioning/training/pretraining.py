"""The phase of pretraining, ahead of cross-entropy: Oscar's and VinVL's objective (Li et al. 2020; Zhang et al. 2021).

The decoder is a BERT that reads a caption, tags and regions, all of which see each other, so a caption is read from
both sides, and tags and regions read it. Two losses are summed, with equal weights:

* masked pieces: of the hidden pieces of captions and tags, the cross-entropy in nats;
* contrast: of three classes, told from the place of `<bos>`: the caption and the tags are those of the image, or the
  tags are those of another image, or the caption is (`captioning.training.pairs`).

What differs from Oscar: tags stand at the positions that they have in captioning, not behind the caption; the learning
rate has the warm-up and the cosine of the other phases. The encoder is frozen, as Oscar's detector is. What tells the
classes is drawn, also where the decoder starts from a text model, and is no part of a trained model.

B images, C captions, T tokens, G tags, K hidden pieces, W width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from captioning.decoders.losses import Mean
from captioning.decoders.oscar import OscarDecoder
from captioning.system import distributed
from captioning.training import batches, optimization
from captioning.training.network import Network
from captioning.training.pairs import Pairing, Pairs
from captioning.training.phase import Losses, Setup, Validated
from captioning.vision.features.placement import to_device
from captioning.vision.features.store import FeatureStore

_MASKED_PIECES, _CONTRAST = "masked_pieces", "contrast"


@dataclass(frozen=True)
class PretrainingOptions:
    """How long and how fast; the section `train` of params.yaml explains each."""

    seed: int
    epochs: int
    batch_size: int
    captions_per_image: int | None
    lr: float
    weight_decay: float
    warmup_steps: int


class Pretrainer(nn.Module):
    """Encoder, decoder and contrast of a network."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        assert isinstance(network.decoder, OscarDecoder)
        assert network.contrast is not None
        self.encoder, self.decoder, self.contrast = network.encoder, network.decoder, network.contrast
        self._encode, self._through_frozen_blocks = network.encode, network.through_frozen_blocks

    def forward(self, inputs: tuple[Tensor, ...], owner: Tensor, pairs: Pairs) -> dict[str, Mean]:
        """owner (C,): the row of each caption's image in `inputs`, of which the regions are read → the losses."""
        encoded = self._encode(self._through_frozen_blocks(inputs))
        x = self.decoder.joint(encoded, pairs.tokens, pairs.tags, owner)  # (C, T + G, W)
        hidden = self.decoder.logits(x.flatten(0, 1)[pairs.places])  # (K, V)
        count = torch.tensor(max(len(hidden), 1), device=hidden.device)
        nats = functional.cross_entropy(hidden, pairs.pieces, reduction="sum")
        told = functional.cross_entropy(self.contrast(x[:, 0]), pairs.classes)
        captions = torch.tensor(len(x), device=hidden.device)
        return {_MASKED_PIECES: Mean(nats / count, count), _CONTRAST: Mean(told, captions)}


def stored_tags(store: FeatureStore) -> np.ndarray | None:
    """Tokens of the tags of each image, (N, G): words, or names of objects; None where there are neither."""
    if store.tags is not None:
        return np.asarray(store.tags[0])
    return None if store.places is None else store.places.tags


class Pretraining:
    """The phase. The epoch with the lowest loss of masked pieces of the validation captions is kept."""

    lowest: str | None = f"val/loss/{_MASKED_PIECES}"
    remedy = "lower train.optimizer.lr, or raise train.optimizer.warmup_steps"

    def __init__(self, setup: Setup, options: PretrainingOptions) -> None:
        self.module, self.epochs = Pretrainer(setup.network), options.epochs
        self._setup, self._options = setup, options
        tags, vocabulary = stored_tags(setup.data.store), setup.data.vocabulary
        self._train, self._val = (
            Pairing(captions, tags, vocabulary, options.seed) for captions in (setup.data.train, setup.data.val)
        )

    def enter(self, network: Network) -> None:
        """The encoder is frozen; the contrast learns in this phase alone."""
        network.enter(encoder_learns=False)
        self.module.contrast.requires_grad_(True)

    def leave(self, network: Network) -> None:
        """No later phase reads the contrast."""
        self.module.contrast.requires_grad_(False)
        network.leave()

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW."""
        modules = [(module, self._options.lr) for module in (self.module.decoder, self.module.contrast)]
        return optimization.adamw(modules, self._options.weight_decay)

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """Warm-up, then half a cosine over this phase."""
        return optimization.cosine(step, self.epochs * steps_per_epoch, self._options.warmup_steps)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Captions, as those of cross-entropy."""
        options, captions = self._options, self._setup.data.train
        return self._setup.inputs.plan(captions, options.batch_size, (options.seed, epoch), options.captions_per_image)

    def prepare(self, epoch: int) -> None:  # noqa: ARG002 (all epochs are alike)
        """Dropout is on."""
        self._setup.network.begin_pretraining()

    def process_part(self, items: np.ndarray, rank: int, world: int) -> tuple[np.ndarray, float]:
        """Captions go with their image."""
        return batches.process_part(self._setup.data.train, items, rank, world)

    def losses(self, wrapped: nn.Module, part: np.ndarray, epoch: int) -> Losses:
        """Of masked pieces and of the contrast."""
        _, inputs, data, fabric = self._setup
        batch = batches.collate(data.train, part, data.vocabulary.special)
        owner, *pairs = to_device((batch.owner, *self._train.drawn(part, epoch)), fabric.device)
        return Losses(wrapped(inputs.draw(batch.rows, fabric.device), owner, Pairs(*pairs)), {}, len(batch.rows))

    @torch.inference_mode()
    def validate(self, captions: Callable[[], Validated]) -> Validated:  # noqa: ARG002 (none can be said yet)
        """Nats a masked piece of the validation captions and their tags; the same pieces are hidden each time."""
        network, inputs, data, fabric = self._setup
        network.eval()
        total, count = 0.0, 0
        plan = inputs.plan(data.val, self._options.batch_size, (0,))
        for numbers in plan[fabric.global_rank :: fabric.world_size]:
            batch = batches.collate(data.val, numbers, data.vocabulary.special)
            owner, *pairs = to_device((batch.owner, *self._val.matched(numbers)), fabric.device)
            nats = self.module(inputs.read(batch.rows, fabric.device), owner, Pairs(*pairs))[_MASKED_PIECES]
            total, count = total + nats.value.item() * int(nats.size), count + int(nats.size)
        totals, counts = zip(*distributed.gather(fabric, (total, count)), strict=True)
        return {f"val/loss/{_MASKED_PIECES}": sum(totals) / sum(counts)}, []
