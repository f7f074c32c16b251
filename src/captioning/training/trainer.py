"""The training loop: plain PyTorch on Lightning Fabric, resumable at every checkpoint.

It goes through `phases`, one after another, each from the best model so far; what a phase validates decides which that
is.

Several processes (see `compute`) take parts of the same steps (`process_parts`); the first one decides and writes.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from captioning.system import compute, distributed, signals
from captioning.system.checkpoints import Checkpoint
from captioning.system.errors import UserError
from captioning.training import optimization
from captioning.training.averaging import Average
from captioning.training.epoch_sums import Sums
from captioning.training.phase import Phase, Setup
from captioning.training.process_parts import ProcessParts
from captioning.training.tracking.live import peak_memory
from captioning.training.validation import Validation

_CHECK_STEPS = 50  # steps between two looks at the losses of a GPU, each of which waits for it
_UPDATE_STEPS = 50  # steps between two looks at how far a step moves the weights, each of which copies them


@dataclass(frozen=True)
class LoopOptions:
    """What all phases share; the section `train` of params.yaml explains each."""

    seed: int
    batch_size: int
    clip_norm: float
    select: str
    patience: int
    checkpoint_steps: int
    ema: float = 0.0
    compile: bool = False


@dataclass
class Progress:
    """Where a training is: all that a checkpoint holds beside weights, optimizer and random state."""

    epoch: int = 0  # of the training, over all phases
    step: int = 0  # steps taken in this epoch
    phase: int = 0
    begin: int = 0  # the first epoch of this phase
    sums: dict[str, float] = field(default_factory=dict)  # losses and norms, summed over this epoch's steps
    updates: dict[str, float] = field(default_factory=dict)  # update ratios, summed over some of these steps
    history: list[dict[str, float]] = field(default_factory=list)  # one row of scalars an epoch
    best_epoch: int = -1
    best_captions: list[str] = field(default_factory=list)  # of val_rows, at the best epoch


EpochEnd = Callable[[dict[str, float], dict[str, float], list[str] | None], None]
"""Called with an epoch's scalars, its speeds, and the validation captions if they are the best so far."""


class Trainer:
    """Takes the network of `setup` through `phases`; afterwards `best` holds the state of the best epoch."""

    def __init__(self, setup: Setup, phases: Sequence[Phase], options: LoopOptions, checkpoint: Checkpoint) -> None:
        self.network, _, self.data, self.fabric = setup
        self.network.to(self.fabric.device)
        self.phases, self.options, self.checkpoint, self.progress = phases, options, checkpoint, Progress()
        self.parts, self.process_parts = self.network.parts(), ProcessParts(self.network, self.fabric)
        self.validation = Validation(setup, options.batch_size)
        self._enter(phases[0])
        compute.reseed(options.seed, self.fabric.global_rank)
        self.sums, self.updates = Sums({}, self.fabric.device), Sums({}, self.fabric.device)
        self.best: dict[str, Tensor] = {}

    def _enter(self, phase: Phase) -> None:
        """Begin a phase with the weights that the network has, and nothing else of what was before.

        What learns is decided before the optimizer takes its parameters, and before processes wrap the module.
        """
        self.phase = phase
        self.network.zero_grad()  # of modules that this phase does not train
        phase.enter(self.network)
        optimizer = phase.optimizer()
        module: nn.Module = torch.compile(phase.module) if self.options.compile else phase.module  # type: ignore[assignment]
        self.wrapped, self.optimizer = self.fabric.setup(module, optimizer)
        self.average = Average(self.network, self.options.ema)

    def _go_to(self, index: int) -> None:
        """Leave the phase, and begin another one."""
        self.phase.leave(self.network)
        self.progress.phase = index
        self._enter(self.phases[index])

    def fit(self, end_of_epoch: EpochEnd) -> Progress:
        """Train to the end. A phase is over after its epochs, or when `patience` of them brought no better score."""
        self._resume(end_of_epoch)
        while True:
            while self.progress.epoch < self._end() and not self._out_of_patience():
                self._epoch(end_of_epoch)
            if self.progress.phase + 1 == len(self.phases):
                self.phase.leave(self.network)
                return self.progress
            self.network.load_state_dict(self.best)
            self.progress.begin = self.progress.epoch
            self._go_to(self.progress.phase + 1)

    def _end(self) -> int:
        return self.progress.begin + self.phase.epochs

    def _epoch(self, end_of_epoch: EpochEnd) -> None:
        begin = time.perf_counter()
        images = self._train_epoch()
        seconds = time.perf_counter() - begin
        with self.average.applied():
            scalars, captions = self._validate()
            better = self._note(scalars, captions)
        speeds = {"images_per_second": images / seconds, **peak_memory()}
        self._save()
        end_of_epoch(scalars, speeds, captions if better and captions else None)

    def _train_epoch(self) -> int:
        """Take the steps of this epoch that are left; return how many images they saw."""
        progress, options, fabric = self.progress, self.options, self.fabric
        plan = self.phase.plan(progress.epoch)
        self.sums, self.updates = Sums(progress.sums, fabric.device), Sums(progress.updates, fabric.device)
        self.phase.prepare(progress.epoch - progress.begin)
        images, before = 0, (progress.epoch - progress.begin) * len(plan)
        title, quiet = f"epoch {progress.epoch + 1}/{self._end()}", not fabric.is_global_zero
        with (
            self._leaving() as interrupted,
            tqdm(plan, title, unit="step", initial=progress.step, disable=quiet) as bar,
        ):
            for items in plan[progress.step :]:
                images += self._step(items, before + progress.step, len(plan))
                progress.step += 1
                bar.update()
                leave = interrupted()
                if leave or progress.step % options.checkpoint_steps == 0:
                    self._read_sums(len(plan))
                    self._save()
                if leave:
                    break
        self._read_sums(len(plan))
        return sum(distributed.gather(fabric, images))

    def _read_sums(self, steps_per_epoch: int) -> None:
        self._check(steps_per_epoch)
        self.progress.sums, self.progress.updates = self.sums.read(), self.updates.read()

    def _leaving(self) -> AbstractContextManager[Callable[[], bool]]:
        """SIGTERM waits for a step and a checkpoint. Several processes, each at a step of its own, leave at once."""
        return signals.postponed() if self.fabric.world_size == 1 else nullcontext(lambda: False)

    def _step(self, items: np.ndarray, step: int, steps_per_epoch: int) -> int:
        """One optimizer step, which changes nothing from the first loss on that is not finite (see `_check`).

        Returns how many images this process saw.
        """
        optimization.set_rate(self.optimizer, self.phase.factor(step, steps_per_epoch))
        part, weight = self.phase.process_part(items, self.fabric.global_rank, self.fabric.world_size)
        self.process_parts.begin(weight)
        losses = self.phase.losses(self.wrapped, part, self.progress.epoch)
        whole = self.process_parts.whole(losses)
        skipped = self.sums.watch(whole.losses, step)
        if self.fabric.device.type == "cpu" or step % _CHECK_STEPS == 0:
            self._check(steps_per_epoch)
        self.optimizer.zero_grad()
        self.fabric.backward(whole.differentiated)
        norms = optimization.gradient_norms(self.parts)
        optimization.clip(self.parts.values(), norms["all"], self.options.clip_norm)
        self._update(skipped)
        self.average.update(step)
        values = {f"loss/{name}": loss for name, loss in whole.losses.items()} | whole.logged
        self.sums.add(values | {f"gradient_norm/{name}": norm for name, norm in norms.items()})
        return losses.images

    def _update(self, skipped: Tensor) -> None:
        """Let the optimizer change the weights unless the step is skipped, and note at some of the steps how far."""
        noted = self.progress.step % _UPDATE_STEPS == 0
        before = optimization.weights(self.parts) if noted else {}
        optimization.step_unless(skipped, self.optimizer)
        if noted:
            ratios = optimization.update_ratios(self.parts, before)
            self.updates.add({f"update_ratio/{name}": ratio for name, ratio in ratios.items()})

    def _check(self, steps_per_epoch: int) -> None:
        """Raise UserError when a loss was not finite. From that step on, no step has changed the weights."""
        bad = self.sums.first_bad()
        if bad is None:
            return
        step, losses = bad
        values = ", ".join(f"{name} {loss}" for name, loss in losses.items())
        rate = self.optimizer.param_groups[-1]["peak"] * self.phase.factor(step, steps_per_epoch)
        raise UserError(
            f"the loss is not finite at step {step} (epoch {self.progress.epoch + 1}, lr {rate:.3g}): {values}; "
            f"{self.phase.remedy}"
        )

    def _validate(self) -> tuple[dict[str, float], list[str]]:
        """The epoch's row of scalars, and a caption for each validation image."""
        progress = self.progress
        looks = -(-progress.step // _UPDATE_STEPS)
        scalars = {f"train/{name}": total / progress.step for name, total in progress.sums.items()}
        scalars |= {f"train/{name}": total / looks for name, total in progress.updates.items()}
        scalars |= {"train/lr": self.optimizer.param_groups[-1]["lr"]}
        scores, captions = self.phase.validate(self.validation.run)
        return scalars | scores, captions

    def _note(self, scalars: dict[str, float], captions: list[str]) -> bool:
        """Enter the finished epoch in the history; keep its weights if its score is the best so far."""
        progress = self.progress
        better = self._better(scalars)
        if better:
            progress.best_epoch, progress.best_captions = progress.epoch, captions
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}
        progress.history.append(scalars)
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        progress.updates = {}
        return better

    def _better(self, scalars: dict[str, float]) -> bool:
        """Is an epoch with these scalars the best so far? Where none has been validated alike yet, the last one is."""
        progress, lowest = self.progress, self.phase.lowest
        score, sign = (lowest, -1) if lowest else (f"val/{self.options.select}", 1)
        best = progress.history[progress.best_epoch].get(score) if progress.best_epoch >= 0 else None
        return best is None or sign * scalars[score] > sign * best

    def _out_of_patience(self) -> bool:
        """Have so many epochs of this phase brought no better score?"""
        last = max(self.progress.best_epoch, self.progress.begin - 1)
        return self.progress.epoch - last > self.options.patience

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
        """Resume from the last checkpoint, if there is one, and report the epochs that it has behind it."""
        state: dict[str, Any] | None = self.checkpoint.load()
        position = None if state is None else [state["progress"]["epoch"], state["progress"]["step"]]
        if any(other != position for other in distributed.gather(self.fabric, position)):
            raise UserError("the processes find different checkpoints; all machines must share the folder .scratch")
        if state is None:
            return
        self.progress = Progress(**state["progress"])
        if self.progress.phase:
            self._go_to(self.progress.phase)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.restore(state["average"])
        self.best = state["best"]
        distributed.restore_random_states(self.fabric, state["random"])
        if self.fabric.is_global_zero:
            tqdm.write(f"going on at epoch {self.progress.epoch + 1}, step {self.progress.step + 1}")
        for epoch, scalars in enumerate(self.progress.history):
            best = self.progress.best_captions or None if epoch == self.progress.best_epoch else None
            end_of_epoch(scalars, {}, best)
