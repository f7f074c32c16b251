"""The blocks of an encoder, under the names that its library gives them."""

from collections.abc import Collection, Iterator

from torch import fx, nn

from captioning.system.errors import UserError
from captioning.vision.encoders.encoders import Encoder

ALL, NONE = "all", "none"
_CONTAINERS = frozenset(  # what is in them is a block
    {"blocks", "encoder", "features", "layers", "levels", "network", "stages", "transformers", "trunk_output"}
)


def blocks(encoder: Encoder) -> list[str]:
    """The names of the blocks that have parameters, in the order in which images pass them.

    A block is a module at the top of the backbone (`layer4`), or in the container that holds all of them
    (`features.14`, `encoder.layers.encoder_layer_11`, `stages.3`).
    """
    assert isinstance(encoder.body, fx.GraphModule)
    passed = [str(node.target) for node in encoder.body.graph.nodes if node.op in ("call_module", "get_attr")]
    with_parameters = {_block(name) for name, _ in encoder.body.named_parameters()}
    return [name for name in dict.fromkeys(map(_block, passed)) if name in with_parameters]


def _block(name: str) -> str:
    """The block that a module or parameter of the body belongs to."""
    parts = name.split(".")
    depth = next((index for index, part in enumerate(parts) if part not in _CONTAINERS), len(parts) - 1)
    return ".".join(parts[: depth + 1])


def ahead_of(encoder: Encoder, from_block: str) -> list[str]:
    """The blocks ahead of `from_block`; `all`: no block, since all are trained; `none`: every block.

    Raises UserError when there is no such block.
    """
    if from_block == ALL:
        return []
    names = blocks(encoder)
    if from_block not in (*names, NONE):
        raise UserError(
            f"train.encoder.from_block = {from_block!r}: {encoder.name} has no such block; "
            f"write {ALL}, {NONE} or one of {', '.join(names)}"
        )
    return names[: [*names, NONE].index(from_block)]


def parameters_in(encoder: Encoder, names: Collection[str]) -> Iterator[nn.Parameter]:
    """The parameters of the blocks of these names."""
    return (parameter for name, parameter in encoder.body.named_parameters() if _block(name) in names)


def modules_of(encoder: Encoder, names: Collection[str]) -> tuple[nn.Module, ...]:
    """The blocks of these names that are modules; others are single parameters."""
    return tuple(module for name, module in encoder.body.named_modules() if name in names)
