"""An encoder in two parts: what lies ahead of the first block that is trained, and the rest.

The front never changes, so it runs without gradients, once for all passes of a step, and its convolutions contain the
BatchNorm behind them. The back has the encoder's own modules.

B images, D feature width, R regions, S side in pixels.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn
from torchvision import ops

from captioning import kernels
from captioning.kernels.division import cut, few_at_once
from captioning.vision.encoders.encoders import Encoder, as_regions, fold_batchnorm

_RANDOM = (nn.modules.dropout._DropoutNd, ops.StochasticDepth)
_RANDOM_OF_TIMM = frozenset({"DropBlock2d", "DropPath", "PatchDropout"})  # by name: timm is not loaded for this


@dataclass(frozen=True)
class Divided:
    """`regions(ahead(pixels))` is the encoder's output; for what lies between, see `divide`."""

    encoder: Encoder
    front: nn.Module
    back: nn.Module
    separable: bool  # is each image a row of its own in all that the front returns?

    @torch.no_grad()
    def ahead(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """uint8 (B, 3, S, S) → what the back reads of it: maps (B, …), and sizes where it asks for them."""
        if not self.separable or pixels.device.type != "cpu":
            return self._run(pixels)
        return few_at_once(self._run, pixels)

    def _run(self, pixels: Tensor) -> tuple[Tensor, ...]:
        border: tuple[Tensor, ...] = self.front(self.encoder.normalised(pixels))
        return border

    def regions(self, border: tuple[Tensor, ...]) -> Tensor:
        """What `ahead` returned → regions (B, R, D)."""
        return as_regions(self.back(*border))


def divide(encoder: Encoder, frozen: Collection[nn.Module]) -> Divided | None:
    """Cut where training begins, given the weights that the front will keep; None where nothing lies ahead of it.

    frozen: modules that stay in eval mode, with all that is in them. Call it on the device where the encoder stays:
    the front's convolutions are copies. The plain way is not to divide.
    """
    body = encoder.body
    assert isinstance(body, fx.GraphModule)
    fixed = _fixed(body, {inner for module in frozen for inner in module.modules()})
    if kernels.plain() or not any(node.op == "call_module" for node in fixed):
        return None
    front, back = cut(body, fixed)
    made = Divided(encoder, fold_batchnorm(front), back, separable=False)
    return replace(made, separable=_has_rows(made))


@torch.no_grad()
def _has_rows(divided: Divided) -> bool:
    """Try with two images. Sizes and parameters have no rows, nor have windows that lie side by side."""
    encoder = divided.encoder
    side = encoder.transform.image_size
    blank = torch.zeros(2, 3, side, side, dtype=torch.uint8, device=encoder.scale.device)
    return all(isinstance(one, Tensor) and len(one) == 2 for one in divided.ahead(blank))


def _fixed(body: fx.GraphModule, frozen: set[nn.Module]) -> dict[fx.Node, None]:
    """The nodes, in order, that depend on nothing that is trained or random."""
    fixed: dict[fx.Node, None] = {}
    for node in body.graph.nodes:
        if node.op != "output" and _stays(body, frozen, node) and all(one in fixed for one in node.all_input_nodes):
            fixed[node] = None
    return fixed


def _stays(body: fx.GraphModule, frozen: set[nn.Module], node: fx.Node) -> bool:
    """Does the node compute the same of the same input, throughout training?"""
    if node.op == "call_module":
        module = body.get_submodule(str(node.target))
        return module in frozen or not (_is_random(module) or any(True for _ in module.parameters()))
    if node.op == "get_attr":
        parent, _, name = str(node.target).rpartition(".")
        return not getattr(body.get_submodule(parent), name).requires_grad
    return True


def _is_random(module: nn.Module) -> bool:
    return isinstance(module, _RANDOM) or type(module).__name__ in _RANDOM_OF_TIMM
