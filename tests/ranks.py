"""Train the tiny models of test_training in the processes that torchrun started: what test_distributed runs.

python -m tests.ranks FILE: the first process writes what came out to FILE.
"""

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from captioning.system import compute

compute.pin(portable=True, threads=1)

import torch  # noqa: E402
from torch import nn  # noqa: E402

from captioning.system import distributed  # noqa: E402
from captioning.system.checkpoints import Checkpoint  # noqa: E402
from captioning.training.encoder.sync_batchnorm import span_processes  # noqa: E402
from captioning.training.trainer import Trainer  # noqa: E402
from tests import tiny_oscar  # noqa: E402
from tests.test_training import KillError, Memory, trainer  # noqa: E402

SMALL = {"dropout": 0.0, "batch_size": 4, "epochs": 3}  # four captions, and two in the last step: for three processes


CRITICAL = {"critical": 2, "epochs": 1, "batch_size": 4, "baseline": "greedy"}


def trained(pixels: bool, **changes: Any) -> dict[str, Any]:
    """Scalars an epoch, captions of the best one, and one number for the weights of each process."""
    return _found(trainer(Memory(), pixels, **{**SMALL, **changes}))


def pretrained() -> dict[str, Any]:
    """The same of an oscar: two epochs of pretraining, and one of cross-entropy."""
    return _found(tiny_oscar.trainer(Memory(), dropout=0.0, batch_size=4))


def _found(made: Trainer) -> dict[str, Any]:
    progress = made.fit(lambda *_: None)
    weights = sum(tensor.double().abs().sum().item() for tensor in made.network.state_dict().values())
    return {
        "history": progress.history,
        "captions": progress.best_captions,
        "weights": distributed.gather(made.fabric, weights),
        "seeds": distributed.gather(made.fabric, torch.initial_seed()),
    }


def normalised() -> dict[str, list[Any]]:
    """BatchNorm over the parts of a batch of 7 in three processes, of which one has a stand-in: all tensors, joined."""
    fabric = compute.start(seed=3, threads=1, device="cpu", precision="32-true")
    norm, values, weights = batch_to_normalise()
    (spanning,) = span_processes(nn.Sequential(norm))
    spanning.part_weight = float(fabric.global_rank != 2)
    part = [slice(0, 5), slice(5, 7), slice(0, 1)][fabric.global_rank]
    mine = values[part].requires_grad_()
    found = spanning(mine)
    (found * weights[part] * spanning.part_weight).sum().backward()
    assert norm.weight.grad is not None
    assert mine.grad is not None
    told = distributed.gather(fabric, [found.tolist(), mine.grad.tolist(), norm.weight.grad.tolist()])
    return {
        "values": told[0][0] + told[1][0],
        "gradient": told[0][1] + told[1][1],
        "stand_in_gradient": told[2][1],
        "weight_gradients": [row[2] for row in told],
        "running": [norm.running_mean.tolist(), norm.running_var.tolist()],  # type: ignore[union-attr]
    }


def batch_to_normalise() -> tuple[nn.BatchNorm2d, torch.Tensor, torch.Tensor]:
    """The module, values (7, 3, 2, 2) with a mean far from zero, and what they are multiplied with for the loss."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(7, 3, 2, 2, generator=generator) * torch.tensor([0.1, 1.0, 9.0]).view(3, 1, 1) + 20
    norm = nn.BatchNorm2d(3)
    nn.init.normal_(norm.weight, generator=generator)
    return norm, values, torch.randn(values.shape, generator=generator)


def resumed(pixels: bool, last: int, **changes: Any) -> dict[str, Any]:
    """As `trained`, stopped after `last` checkpoints and taken up from the file."""
    options = {**SMALL, **changes}
    stopped = trainer(Checkpoint(f"ranks-{last}"), pixels, **options)
    save, count = stopped._save, iter(range(1, last + 1))

    def save_and_stop() -> None:
        save()
        if next(count) == last:
            raise KillError

    stopped._save = save_and_stop  # type: ignore[method-assign]
    with suppress(KillError):
        stopped.fit(lambda *_: None)
    assert stopped.progress.step > 0  # in the middle of an epoch
    stopped.fabric.barrier()
    again = trainer(Checkpoint(f"ranks-{last}"), pixels, **options)
    progress = again.fit(lambda *_: None)
    return {"history": progress.history, "captions": progress.best_captions}


def main(out: Path) -> None:
    """Write all results as JSON."""
    found = {
        "normalised": normalised(),
        "features": trained(False),
        "pixels": trained(True),
        "dropout": trained(False, dropout=0.3),
        "pretrained": pretrained(),
        "critical": trained(False, **CRITICAL),
        "critical_pixels": trained(True, **CRITICAL),
        "critical_drawn": trained(True, start_epoch=2, drawn=True, **CRITICAL),
        "critical_drawn_resumed": resumed(True, 7, start_epoch=2, drawn=True, **CRITICAL),
        "resumed": resumed(False, 4, dropout=0.3),
        "late": trained(True, start_epoch=2),
        "drawn": trained(True, start_epoch=2, drawn=True),
        "drawn_resumed": resumed(True, 8, start_epoch=2, drawn=True),
    }
    if torch.distributed.get_rank() == 0:
        out.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
