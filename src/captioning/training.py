"""The training loop: plain PyTorch on Lightning Fabric, resumable at every checkpoint.

Validation is free-running: captions are decoded greedily and scored, by the code that `evaluate` runs.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from captioning import batches, optimization
from captioning.checkpoints import Checkpoint
from captioning.decoders.base import Encoded
from captioning.decoding import decode_rows
from captioning.errors import UserError
from captioning.features import FeatureStore
from captioning.metrics import References
from captioning.networks import EndToEnd, OnFeatures
from captioning.search import SearchOptions
from captioning.splits import EncodedCaptions
from captioning.tracking import peak_memory
from captioning.vocabulary import Vocabulary


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


@dataclass(frozen=True)
class LoopOptions:
    """How long, how fast and by which score; the section `train` of params.yaml says what each means."""

    seed: int
    epochs: int
    batch_size: int
    schedule: str
    step_epochs: int
    step_gamma: float
    warmup_steps: int
    clip_norm: float
    select: str
    patience: int
    checkpoint_steps: int


@dataclass
class Progress:
    """Where a training is: all that a checkpoint holds beside weights, optimizer and random state."""

    epoch: int = 0
    step: int = 0  # steps taken in this epoch
    sums: dict[str, float] = field(default_factory=dict)  # losses and norms, summed over this epoch's steps
    history: list[dict[str, float]] = field(default_factory=list)  # one row of scalars an epoch
    best_epoch: int = -1
    best_captions: list[str] = field(default_factory=list)  # of val_rows, at the best epoch


EpochEnd = Callable[[dict[str, float], dict[str, float], list[str] | None], None]
"""Called with an epoch's scalars, its speeds, and the validation captions if they are the best so far."""


class Trainer:
    """Trains `network` on `data`; afterwards `best` holds the state of the best epoch."""

    def __init__(
        self,
        network: OnFeatures | EndToEnd,
        optimizer: torch.optim.Optimizer,
        data: Data,
        options: LoopOptions,
        fabric: Fabric,
        checkpoint: Checkpoint,
    ) -> None:
        self.network, self.data, self.options, self.fabric = network, data, options, fabric
        self.parts = network.parts()
        self.wrapped, self.optimizer = fabric.setup(network, optimizer)
        self.checkpoint = checkpoint
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.longest = int(data.train.lengths.max()) - 1  # words, `<bos>` not counted

    def fit(self, end_of_epoch: EpochEnd) -> Progress:
        """Train to the end, or until `patience` epochs brought no better score."""
        self._resume(end_of_epoch)
        while self.progress.epoch < self.options.epochs and not self._out_of_patience():
            begin = time.perf_counter()
            images = self._train_epoch()
            seconds = time.perf_counter() - begin
            scalars, captions = self._validate()
            better = self._note(scalars, captions)
            speeds = {"images_per_second": images / seconds, "peak_memory_mib": peak_memory()}
            self._save()
            end_of_epoch(scalars, speeds, captions if better else None)
        return self.progress

    def _train_epoch(self) -> int:
        """Take the steps of this epoch that are left; return how many images they saw."""
        progress, options = self.progress, self.options
        plan = self.network.plan(self.data.train, options.batch_size, (options.seed, progress.epoch))
        bar = tqdm(plan, desc=f"epoch {progress.epoch + 1}/{options.epochs}", unit="step", initial=progress.step)
        self.network.train()
        images = 0
        with bar:
            for chosen in plan[progress.step :]:
                batch = batches.collate(self.data.train, chosen)
                self._step(batch, progress.epoch * len(plan) + progress.step, len(plan))
                images += len(batch.rows)
                progress.step += 1
                bar.update()
                if progress.step % options.checkpoint_steps == 0:
                    self._save()
        return images

    def _step(self, batch: batches.Batch, step: int, steps_per_epoch: int) -> None:
        """One optimizer step. Raises UserError, before the weights are touched, when the loss is not finite."""
        factor = self._factor(step, steps_per_epoch)
        optimization.set_rate(self.optimizer, factor)
        inputs = self._to_device(self.network.read(self.data.store, batch.rows))
        tokens, owner = self._to_device((batch.tokens, batch.owner))
        losses = self.wrapped(inputs, tokens, owner)
        total = torch.stack(list(losses.values())).sum()
        if not math.isfinite(total.item()):
            said = ", ".join(f"{name} {loss.item()}" for name, loss in losses.items())
            rate = self.optimizer.param_groups[-1]["lr"]
            raise UserError(
                f"the loss is not finite at step {step} (epoch {self.progress.epoch + 1}, lr {rate:.3g}): {said}; "
                "lower train.lr or train.encoder_lr, or raise train.warmup_steps"
            )
        self.optimizer.zero_grad()
        self.fabric.backward(total)
        norms = optimization.gradient_norms(self.parts)
        optimization.clip(self.parts.values(), norms["all"], self.options.clip_norm)
        self.optimizer.step()
        self._add({f"loss/{name}": loss for name, loss in losses.items()})
        self._add({f"gradient_norm/{name}": norm for name, norm in norms.items()})

    def _factor(self, step: int, steps_per_epoch: int) -> float:
        options = self.options
        if options.schedule == "cosine":
            return optimization.cosine(step, options.epochs * steps_per_epoch, options.warmup_steps)
        epoch = step // steps_per_epoch
        return optimization.stepwise(step, epoch, options.step_epochs, options.step_gamma, options.warmup_steps)

    def _add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.progress.sums[name] = self.progress.sums.get(name, 0.0) + value.item()

    @torch.inference_mode()
    def _validate(self) -> tuple[dict[str, float], list[str]]:
        """The epoch's row of scalars, and a caption for each validation image."""
        progress, data = self.progress, self.data
        self.network.eval()
        scalars = {f"train/{name}": total / progress.step for name, total in progress.sums.items()}
        scalars["train/lr"] = self.optimizer.param_groups[-1]["lr"]
        scalars["val/loss/caption"] = self._validation_loss()
        greedy = SearchOptions(beam_size=1, max_words=self.longest)
        captions = decode_rows(
            self._encode, self.network.decoder, data.vocabulary, data.val_rows, greedy, self.options.batch_size
        )
        corpus = data.references.score(dict(zip(data.val_ids, captions, strict=True))).corpus
        return scalars | {f"val/{name}": value for name, value in corpus.items()}, captions

    def _validation_loss(self) -> float:
        total, words = 0.0, 0
        for chosen in self.network.plan(self.data.val, self.options.batch_size, (0,)):
            batch = batches.collate(self.data.val, chosen)
            tokens, owner = self._to_device((batch.tokens, batch.owner))
            inputs = self._to_device(self.network.read(self.data.store, batch.rows))
            count = int((self.data.val.lengths[chosen] - 1).sum())
            total += self.network(inputs, tokens, owner)["caption"].item() * count
            words += count
        return total / words

    def _encode(self, rows: np.ndarray) -> Encoded:
        with self.fabric.autocast():
            return self.network.encode(self._to_device(self.network.read(self.data.store, rows)))

    def _to_device(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self.fabric.device) for tensor in tensors)

    def _note(self, scalars: dict[str, float], captions: list[str]) -> bool:
        """Enter the finished epoch in the history; keep its weights if its score is the best so far."""
        progress = self.progress
        score = f"val/{self.options.select}"
        better = progress.best_epoch < 0 or scalars[score] > progress.history[progress.best_epoch][score]
        if better:
            progress.best_epoch, progress.best_captions = progress.epoch, captions
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
        progress.history.append(scalars)
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        return better

    def _out_of_patience(self) -> bool:
        return self.progress.epoch - self.progress.best_epoch > self.options.patience

    def _save(self) -> None:
        self.checkpoint.save(
            {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "best": self.best,
                "progress": asdict(self.progress),
                "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
            }
        )

    def _resume(self, end_of_epoch: EpochEnd) -> None:
        """Take up the last checkpoint, if there is one, and tell of the epochs that it has behind it."""
        state: dict[str, Any] | None = self.checkpoint.load()
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self.progress = Progress(**state["progress"])
        torch.set_rng_state(state["random"][0])
        torch.cuda.set_rng_state_all(state["random"][1:])
        tqdm.write(f"going on at epoch {self.progress.epoch + 1}, step {self.progress.step + 1}")
        for epoch, scalars in enumerate(self.progress.history):
            best = self.progress.best_captions if epoch == self.progress.best_epoch else None
            end_of_epoch(scalars, {}, best)


def count_parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
