"""The training of a detector: AdamW over batches of images, resumable at every checkpoint.

The weights that are validated and kept are a moving average. The epoch with the highest AP50 on validation is kept.
Order and mirroring are drawn from the seed and the epoch alone, so a resumed epoch is the same.

N images, S side in pixels.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from captioning.data.detection.labelled import Labelled
from captioning.system import signals
from captioning.system.checkpoints import Checkpoint
from captioning.system.errors import UserError
from captioning.vision.detection.network import STRIDE, CentrePoints
from captioning.vision.detection.targets import losses, targets

SIDE = 96  # pixels: a quarter of the work of 192, the size of drawn scenes, whose smallest objects have 8 then
EPOCHS = 6  # of 7,200 scenes, about 35 seconds each on two cores of an AMD EPYC (Zen 4)
_BATCH = 16
_RATE, _DECAY, _WARMUP = 2e-3, 1e-4, 100  # AdamW's; steps of the warm-up, ahead of half a cosine to zero
_AVERAGE = 0.995  # of the moving average, which reaches back over some 200 steps
_CLIP = 10.0  # norm of the gradient: what is usual is below, and the first steps are not
_CHECKPOINT = 200  # steps between checkpoints, about 15 seconds on the same

Validate = Callable[[CentrePoints], dict[str, float]]
"""The scores `ap` and `ap50` of a network, in eval mode, on images that it was not trained on."""


@dataclass
class Progress:
    """Where a training is: all that a checkpoint holds beside weights and optimizer."""

    epoch: int = 0
    step: int = 0  # steps taken in this epoch
    sums: dict[str, float] = field(default_factory=dict)  # of losses, over this epoch's steps
    history: list[dict[str, float]] = field(default_factory=list)  # mean losses and scores, an epoch each
    best: int = -1  # epoch


def rate(step: int, steps: int) -> float:
    """The learning rate at `step` of `steps`: a linear warm-up, times half a cosine to zero."""
    return _RATE * min(1.0, (step + 1) / _WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _averaged(average: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
    """The average with the weights of one more step taken in; it reaches back less far as long as steps are few."""
    if not average.is_floating_point():  # BatchNorm's counts
        return now
    return torch.lerp(average, now, 1 - min(_AVERAGE, (1 + int(count)) / (10 + int(count))))


class DetectorTraining:
    """Trains `network` on `labelled`; afterwards `best` holds the state of the best epoch."""

    def __init__(
        self, network: CentrePoints, labelled: Labelled, validate: Validate, checkpoint: Checkpoint, seed: int
    ) -> None:
        # the channels of a cell lie side by side: the layout that convolutions on a CPU are fast in
        self.network = network.to(memory_format=torch.channels_last)
        self.labelled, self.validate, self.checkpoint, self.seed = labelled, validate, checkpoint, seed
        self.optimizer = torch.optim.AdamW(network.parameters(), weight_decay=_DECAY, fused=True)
        self.average = AveragedModel(network, avg_fn=_averaged, use_buffers=True)
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}

    @property
    def averaged(self) -> CentrePoints:
        """The network with the averaged weights."""
        assert isinstance(self.average.module, CentrePoints)
        return self.average.module

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.labelled.boxes) // _BATCH)

    def fit(self, epochs: int = EPOCHS) -> Progress:
        """Train to the end, from the last checkpoint if there is one. Raises UserError if a loss is not finite."""
        self._resume()
        while self.progress.epoch < epochs:
            self._train(epochs)
            self._note(self.validate(self.averaged.eval()))
            self._save()
        return self.progress

    def _train(self, epochs: int) -> None:
        """The steps of this epoch that are left. SIGTERM waits for one of them, and a checkpoint."""
        progress, draw = self.progress, np.random.default_rng((self.seed, self.progress.epoch))
        order, mirrored = draw.permutation(len(self.labelled.boxes)), draw.random(len(self.labelled.boxes)) < 0.5
        title = f"detector, epoch {progress.epoch + 1}/{epochs}"
        self.network.train()
        with (
            signals.postponed() as leaving,
            tqdm(total=self.steps, desc=title, unit="step", initial=progress.step) as bar,
        ):
            while progress.step < self.steps and not leaving():
                rows = order[progress.step * _BATCH :][:_BATCH]
                self._step(rows, mirrored[rows], self.steps * epochs)
                bar.update()
                if progress.step % _CHECKPOINT == 0 or leaving():
                    self._save()

    def _step(self, rows: np.ndarray, mirrored: np.ndarray, whole: int) -> None:
        progress, device = self.progress, self.network.heat.weight.device
        step = progress.epoch * self.steps + progress.step
        self.optimizer.param_groups[0]["lr"] = rate(step, whole)
        pixels, objects = self.labelled.batch(rows, mirrored)
        pixels = pixels.to(device, memory_format=torch.channels_last)
        wanted = targets(objects, self.network.classes, pixels.shape[-1] // STRIDE).to(device)
        found = losses(self.network(pixels), wanted)
        for name, loss in found.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + self._finite(name, loss)
        self.optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(found.values())).sum())
        clip_grad_norm_(self.network.parameters(), _CLIP)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        progress.step += 1

    def _finite(self, name: str, loss: Tensor) -> float:
        value = loss.item()
        if not np.isfinite(value):
            place = f"step {self.progress.step + 1}, epoch {self.progress.epoch + 1}"
            raise UserError(f"objects = trained: the loss {name} is {value} at {place}; set another seed")
        return value

    def _note(self, scores: dict[str, float]) -> None:
        """Enter the finished epoch in the history; keep its weights if its score is the best so far."""
        progress = self.progress
        best = progress.history[progress.best]["ap50"] if progress.history else -1.0
        if scores["ap50"] > best:
            progress.best = progress.epoch
            self.best = {name: tensor.cpu().clone() for name, tensor in self.averaged.state_dict().items()}
        means = {name: round(total / self.steps, 4) for name, total in progress.sums.items()}
        progress.history.append(means | scores)
        progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
        row = ", ".join(f"{name} {value}" for name, value in progress.history[-1].items())
        tqdm.write(f"detector, epoch {progress.epoch}: {row}")

    def _save(self) -> None:
        self.checkpoint.save(
            {
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict(),
                "best": self.best,
                "progress": asdict(self.progress),
            }
        )

    def _resume(self) -> None:
        state: dict[str, Any] | None = self.checkpoint.load()
        if state is None:
            return
        self.progress, self.best = Progress(**state["progress"]), state["best"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        tqdm.write(f"detector: going on at epoch {self.progress.epoch + 1}, step {self.progress.step + 1}")
