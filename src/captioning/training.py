"""The training loop: plain PyTorch on Lightning Fabric, resumable at every checkpoint.

Validation is free-running: captions are decoded greedily and scored, by the code that `evaluate` runs.

Several processes (see `compute`) take parts of the same steps: losses are weighted so that the averaged gradient is
that of the whole batch, BatchNorm sees the whole batch, and the first process decides and writes.

K losses, W processes.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from captioning import batches, compute, distributed, optimization
from captioning.averaging import Average
from captioning.batchnorm import span_processes
from captioning.checkpoints import Checkpoint
from captioning.decoders.base import Encoded
from captioning.decoding import decode_rows
from captioning.errors import UserError
from captioning.features import FeatureStore
from captioning.losses import Mean
from captioning.metrics import References
from captioning.networks import EndToEnd, OnFeatures
from captioning.placement import to_device
from captioning.search import SearchOptions
from captioning.splits import EncodedCaptions
from captioning.sums import Sums
from captioning.tracking import peak_memory
from captioning.vocabulary import Vocabulary

_CHECK_STEPS = 50  # steps between two looks at the losses of a GPU, each of which waits for it


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
    ema: float = 0.0
    compile: bool = False


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
        self.parts, self.checkpoint, self.progress = network.parts(), checkpoint, Progress()
        self.norms = span_processes(network) if fabric.world_size > 1 else []
        trained: nn.Module = torch.compile(network) if options.compile else network  # type: ignore[assignment]
        self.wrapped, self.optimizer = fabric.setup(trained, optimizer)
        compute.reseed(options.seed, fabric.global_rank)
        self.average = Average(network, options.ema)
        self.sums = Sums({}, fabric.device)
        self.best: dict[str, Tensor] = {}
        self.longest = int(data.train.lengths.max()) - 1  # words, `<bos>` not counted

    def fit(self, end_of_epoch: EpochEnd) -> Progress:
        """Train to the end, or until `patience` epochs brought no better score."""
        self._resume(end_of_epoch)
        while self.progress.epoch < self.options.epochs and not self._out_of_patience():
            begin = time.perf_counter()
            images = self._train_epoch()
            seconds = time.perf_counter() - begin
            with self.average.applied():
                scalars, captions = self._validate()
                better = self._note(scalars, captions)
            speeds = {"images_per_second": images / seconds, "peak_memory_mib": peak_memory()}
            self._save()
            end_of_epoch(scalars, speeds, captions if better else None)
        return self.progress

    def _train_epoch(self) -> int:
        """Take the steps of this epoch that are left; return how many images they saw."""
        progress, options, fabric = self.progress, self.options, self.fabric
        plan = self.network.plan(self.data.train, options.batch_size, (options.seed, progress.epoch))
        self.sums = Sums(progress.sums, fabric.device)
        self.network.begin(progress.epoch + 1)
        images = 0
        said, quiet = f"epoch {progress.epoch + 1}/{options.epochs}", not fabric.is_global_zero
        with tqdm(plan, said, unit="step", initial=progress.step, disable=quiet) as bar:
            for chosen in plan[progress.step :]:
                part, weight = batches.share(self.data.train, chosen, fabric.global_rank, fabric.world_size)
                batch = batches.collate(self.data.train, part)
                self._step(batch, weight, progress.epoch * len(plan) + progress.step, len(plan))
                images += len(batch.rows)
                progress.step += 1
                bar.update()
                if progress.step % options.checkpoint_steps == 0:
                    self._check(len(plan))
                    progress.sums = self.sums.read()
                    self._save()
        self._check(len(plan))
        progress.sums = self.sums.read()
        return sum(distributed.gather(fabric, images))

    def _step(self, batch: batches.Batch, weight: float, step: int, steps_per_epoch: int) -> None:
        """One optimizer step, which changes nothing from the first loss on that is not finite (see `_check`)."""
        optimization.set_rate(self.optimizer, self._factor(step, steps_per_epoch))
        inputs = to_device(self.network.read(self.data.store, batch.rows), self.fabric.device)
        tokens, owner = to_device((batch.tokens, batch.owner), self.fabric.device)
        for norm in self.norms:
            norm.share = weight
        named: dict[str, Mean] = self.wrapped(inputs, tokens, owner)
        total, losses = self._whole(named, weight)
        self.optimizer.optimizer.found_inf = self.sums.watch(losses, step)
        if self.fabric.device.type == "cpu" or step % _CHECK_STEPS == 0:
            self._check(steps_per_epoch)
        self.optimizer.zero_grad()
        self.fabric.backward(total)
        norms = optimization.gradient_norms(self.parts)
        optimization.clip(self.parts.values(), norms["all"], self.options.clip_norm)
        self.optimizer.step()
        self.average.update(step)
        values = {f"loss/{name}": loss for name, loss in losses.items()}
        self.sums.add(values | {f"gradient_norm/{name}": norm for name, norm in norms.items()})

    def _whole(self, parts: dict[str, Mean], weight: float) -> tuple[Tensor, dict[str, Tensor]]:
        """What this process differentiates, and the losses of the whole batch, which are the same in all processes.

        A loss is a mean over words. Each process counts by how many it has: its means are scaled by
        W * its words / all words, since the gradients of the W processes are then averaged.
        """
        means = torch.stack([part.value for part in parts.values()])  # (K,)
        if self.fabric.world_size == 1:
            return means.sum(), dict(zip(parts, means.detach(), strict=True))
        sizes = weight * torch.stack([part.size for part in parts.values()]).to(means.dtype)  # (K,)
        summed = self.fabric.all_reduce(torch.stack([means.detach() * sizes, sizes]), reduce_op="sum")
        assert isinstance(summed, Tensor)
        total = (means * self.fabric.world_size * sizes / summed[1]).sum()
        return total, dict(zip(parts, summed[0] / summed[1], strict=True))

    def _check(self, steps_per_epoch: int) -> None:
        """Raise UserError when a loss was not finite. From that step on, no step has changed the weights."""
        bad = self.sums.first_bad()
        if bad is None:
            return
        step, losses = bad
        said = ", ".join(f"{name} {loss}" for name, loss in losses.items())
        rate = self.optimizer.param_groups[-1]["peak"] * self._factor(step, steps_per_epoch)
        raise UserError(
            f"the loss is not finite at step {step} (epoch {self.progress.epoch + 1}, lr {rate:.3g}): {said}; "
            "lower train.lr or train.encoder_lr, or raise train.warmup_steps"
        )

    def _factor(self, step: int, steps_per_epoch: int) -> float:
        options = self.options
        if options.schedule == "cosine":
            return optimization.cosine(step, options.epochs * steps_per_epoch, options.warmup_steps)
        epoch = step // steps_per_epoch
        return optimization.stepwise(step, epoch, options.step_epochs, options.step_gamma, options.warmup_steps)

    @torch.inference_mode()
    def _validate(self) -> tuple[dict[str, float], list[str]]:
        """The epoch's row of scalars, and a caption for each validation image."""
        progress, data = self.progress, self.data
        self.network.eval()
        scalars = {f"train/{name}": total / progress.step for name, total in progress.sums.items()}
        scalars |= {"train/lr": self.optimizer.param_groups[-1]["lr"], **self.network.rates()}
        scalars["val/loss/caption"] = self._validation_loss()
        greedy = SearchOptions(beam_size=1, max_words=self.longest)
        captions = decode_rows(
            self._encode,
            self.network.decoder,
            data.vocabulary,
            data.val_rows,
            greedy,
            self.options.batch_size,
            self.fabric,
        )

        def scores() -> dict[str, float]:
            corpus = data.references.score(dict(zip(data.val_ids, captions, strict=True))).corpus
            return scalars | {f"val/{name}": value for name, value in corpus.items()}

        return distributed.once(self.fabric, scores), captions

    def _validation_loss(self) -> float:
        """Nats a word of the validation captions; processes take batches in turns."""
        total, words = 0.0, 0
        plan = self.network.plan(self.data.val, self.options.batch_size, (0,))
        for chosen in plan[self.fabric.global_rank :: self.fabric.world_size]:
            batch = batches.collate(self.data.val, chosen)
            inputs = to_device(self.network.read(self.data.store, batch.rows), self.fabric.device)
            tokens, owner = to_device((batch.tokens, batch.owner), self.fabric.device)
            count = int((self.data.val.lengths[chosen] - 1).sum())
            total += self.network(inputs, tokens, owner)["caption"].value.item() * count
            words += count
        parts = distributed.gather(self.fabric, (total, words))
        return float(sum(part for part, _ in parts) / sum(count for _, count in parts))

    def _encode(self, rows: np.ndarray) -> Encoded:
        with self.fabric.autocast():
            return self.network.encode(to_device(self.network.read(self.data.store, rows), self.fabric.device))

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
        """Write a checkpoint, on the first process; it holds the random states of all."""
        random = distributed.random_states(self.fabric)
        if self.fabric.is_global_zero:
            self.checkpoint.save(
                {
                    "network": self.network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "average": self.average.state,
                    "best": self.best,
                    "progress": asdict(self.progress),
                    "random": random,
                }
            )

    def _resume(self, end_of_epoch: EpochEnd) -> None:
        """Take up the last checkpoint, if there is one, and tell of the epochs that it has behind it."""
        state: dict[str, Any] | None = self.checkpoint.load()
        place = None if state is None else [state["progress"]["epoch"], state["progress"]["step"]]
        if any(other != place for other in distributed.gather(self.fabric, place)):
            raise UserError("the processes find different checkpoints; all machines must share the folder .scratch")
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.restore(state["average"])
        self.best = state["best"]
        self.progress = Progress(**state["progress"])
        distributed.restore_random_states(self.fabric, state["random"])
        if self.fabric.is_global_zero:
            tqdm.write(f"going on at epoch {self.progress.epoch + 1}, step {self.progress.step + 1}")
        for epoch, scalars in enumerate(self.progress.history):
            best = self.progress.best_captions if epoch == self.progress.best_epoch else None
            end_of_epoch(scalars, {}, best)
