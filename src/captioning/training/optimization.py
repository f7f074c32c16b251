"""AdamW, the learning rate over time, and by module the norms of gradients and the size of updates."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from lightning_fabric.wrappers import _FabricOptimizer
from torch import Tensor, nn


def adamw(modules: Iterable[tuple[nn.Module, float]], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over (module, learning rate) pairs; only matrices and kernels decay (Loshchilov and Hutter 2019).

    Each group keeps its peak learning rate as `peak`.
    """
    groups: list[dict[str, Any]] = []
    for module, rate in modules:
        trained = [p for p in module.parameters() if p.requires_grad]
        for decay, parameters in (
            (weight_decay, [p for p in trained if p.ndim >= 2]),
            (0.0, [p for p in trained if p.ndim < 2]),
        ):
            groups.append({"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay})
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


def warm(step: int, warmup_steps: int) -> float:
    """The fraction of the learning rate in the warm-up: linear, from 1 / warmup_steps to 1."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def cosine(step: int, steps: int, warmup_steps: int) -> float:
    """Factor of the learning rate at `step` of `steps`: warm-up, then half a cosine to zero."""
    progress = max(0, step - warmup_steps) / max(1, steps - warmup_steps)
    return warm(step, warmup_steps) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def step_unless(skipped: Tensor, optimizer: _FabricOptimizer) -> None:
    """A step of the optimizer, or none where `skipped` is 1.0. A GPU decides by itself: nothing waits for it."""
    if skipped.device.type == "cpu":
        if not skipped:
            optimizer.step()
        return
    skip_on_device(optimizer.optimizer, skipped)
    optimizer.step()


def skip_on_device(optimizer: torch.optim.Optimizer, skipped: Tensor) -> None:
    """Let the next steps of a fused optimizer change nothing where `skipped`, on its device, is 1.0.

    torch's GradScaler does the same: fused kernels read `found_inf`, and then neither weights nor state change.
    """
    optimizer.found_inf = skipped  # type: ignore[attr-defined]


def gradient_norms(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The Euclidean norm of the gradient of each module, and under `all` that of all together."""
    norms = {}
    for name, module in modules.items():
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        if gradients:
            norms[name] = nn.utils.get_total_norm(gradients)
    norms["all"] = nn.utils.get_total_norm(list(norms.values()))
    return norms


def weights(modules: dict[str, nn.Module]) -> dict[str, list[Tensor]]:
    """A copy of the parameters of each module that have a gradient."""
    copies = {
        name: [p.detach().clone() for p in module.parameters() if p.grad is not None]
        for name, module in modules.items()
    }
    return {name: copy for name, copy in copies.items() if copy}


def update_ratios(modules: dict[str, nn.Module], before: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """How far a step moved the weights of each module: the norm of the change over the norm of the weights.

    before: `weights` of these modules, ahead of the step. Norms are Euclidean, over all parameters of a module. About
    0.001 is usual; far above it training is restless, far below it slow (Karpathy, CS231n, "Ratio of weights:updates").
    """
    ratios = {}
    for name, old in before.items():
        new = [p.detach() for p in modules[name].parameters() if p.grad is not None]
        change = torch._foreach_sub(new, old)
        ratios[name] = nn.utils.get_total_norm(change) / nn.utils.get_total_norm(old)
    return ratios


def clip(modules: Iterable[nn.Module], norm: Tensor, largest: float) -> None:
    """Scale all gradients so that their norm, now `norm`, is at most `largest` (Pascanu et al. 2013)."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    nn.utils.clip_grads_with_norm_(parameters, largest, norm)


def count_parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
