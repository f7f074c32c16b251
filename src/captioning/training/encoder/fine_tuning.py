"""Which blocks of an encoder are trained: those from one of them on, under the names that torchvision gives them."""

from torch import fx

from captioning.system.errors import UserError
from captioning.vision.encoders.encoders import Encoder

ALL, NONE = "all", "none"
_CONTAINERS = frozenset({"blocks", "encoder", "features", "layers", "trunk_output"})  # what is in them is a block


def blocks(encoder: Encoder) -> list[str]:
    """The names of the blocks that have parameters, in the order in which pictures pass them.

    A block is a module at the top of the backbone (`layer4`), or in the container that holds all of them
    (`features.14`, `encoder.layers.encoder_layer_11`).
    """
    assert isinstance(encoder.body, fx.GraphModule)
    passed = [str(node.target) for node in encoder.body.graph.nodes if node.op in ("call_module", "get_attr")]
    trained = {_block(name) for name, _ in encoder.body.named_parameters()}
    return [name for name in dict.fromkeys(map(_block, passed)) if name in trained]


def _block(name: str) -> str:
    """The block that a module or parameter of the body belongs to."""
    parts = name.split(".")
    depth = next((index for index, part in enumerate(parts) if part not in _CONTAINERS), len(parts) - 1)
    return ".".join(parts[: depth + 1])


def train_from(encoder: Encoder, block: str) -> Encoder:
    """Train `block` and those after it; `all`: all of them; `none`: none. The others are a fixed function from now on.

    No gradient is computed for what is fixed, and since nothing ahead of it is trained, no backward pass enters it and
    none of its activations are kept. Raises UserError when there is no such block.
    """
    if block == ALL:
        return encoder
    found = blocks(encoder)
    if block not in (*found, NONE):
        said = f"train.encoder.from_block = {block!r}: {encoder.name} has no such block"
        raise UserError(f"{said}; write {ALL}, {NONE} or one of {', '.join(found)}")
    fixed = found[: [*found, NONE].index(block)]
    for name, parameter in encoder.body.named_parameters():
        if _block(name) in fixed:
            parameter.requires_grad_(False)
    return encoder.fix(module for name, module in encoder.body.named_modules() if name in fixed)
