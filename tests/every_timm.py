"""Encoders of timm, one of each of its modules: `python -m tests.every_timm` runs all of them.

It takes minutes, so `make test` runs a few (`tests/test_timm.py`).
"""

import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from captioning.system.errors import UserError
from captioning.vision.encoders import backbones, encoders, timm_models
from captioning.vision.encoders.encoders import Encoder

SIDES = (64, 96, 128, 160, 192, 224, 256, 288, 384, 512)
"""The first one that a network takes from scratch is tried."""

REFUSED: dict[str, str] = {}
"""Modules of timm that cannot be encoders, and why: part of the message."""


class Found(NamedTuple):
    """What an encoder is at a small size."""

    side: int
    regions: int
    width: int


def smallest_side(name: str) -> int:
    """The first of `SIDES` at which there is more than one region."""
    sizes = timm_models.sizes(name, pretrained=False)
    return next((side for side in SIDES if sizes.take(side)), timm_models.preset(name).image_size)


def look(name: str, side: int) -> Found:
    """Build and run it; raise AssertionError where it is not what an encoder promises."""
    encoder = encoders.build(name, transform=backbones.transform_for(name, side, pretrained=False), weights={})
    with torch.device("meta"):
        whole = timm_models._network(name, side)
        features = whole.forward_features(torch.zeros(1, 3, side, side))
    assert encoder.dim == whole.num_features, f"{encoder.dim} features of {whole.num_features}"
    assert encoder.body.state_dict().keys() <= whole.state_dict().keys()
    assert not {key.partition(".")[0] for key in encoder.body.state_dict()} & timm_models._HEADS
    assert encoder.grid is not None, f"{encoder.regions} regions are no square"
    if features.ndim == 3 or features.shape[1] != encoder.dim:
        _check_order(encoder)
    return Found(side, encoder.regions, encoder.dim)


def _check_order(encoder: Encoder) -> None:
    """Tokens lie row by row: each of two corners of the image changes its own token most."""
    assert encoder.grid is not None
    rows, columns = encoder.grid
    for row, column in {(0, columns - 1), (rows - 1, 0)}:
        place = _most_changed(encoder, row, column)
        assert place == row * columns + column, f"a change at {row}, {column} of {encoder.grid} is seen at {place}"


def _most_changed(encoder: Encoder, row: int, column: int) -> int:
    """The region that sees a change of the pixels of one cell of the grid."""
    assert encoder.grid is not None
    side, (rows, columns) = encoder.transform.image_size, encoder.grid
    high, wide = side // rows, side // columns
    pixels: Tensor = torch.full((2, 3, side, side), 128, dtype=torch.uint8)
    noise = torch.randint(0, 256, (3, high, wide), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[1, :, row * high : (row + 1) * high, column * wide : (column + 1) * wide] = noise
    with torch.inference_mode():
        before, after = encoder(pixels)
    return int((after - before).norm(dim=1).argmax())


def by_module() -> Iterator[tuple[str, str]]:
    """Each module of timm, and the network in it that has the fewest parameters. It takes a minute or two."""
    import timm
    from timm.models import _registry

    for module in timm.list_modules():
        names = [name for name in timm.list_models(module=module) if _registry.is_model(name)]
        yield module, min(names, key=_parameters)


def _parameters(name: str) -> int:
    import timm

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in timm.create_model(name).parameters())


def main() -> int:
    """Print a line for each module; the number of those that are not as they should be."""
    wrong = 0
    for module, plain in by_module():
        name, begin = f"{timm_models.PREFIX}{plain}", time.perf_counter()
        try:
            told = str(look(name, smallest_side(name)))
            fine = module not in REFUSED
        except (AssertionError, UserError) as fault:
            told, fine = str(fault), module in REFUSED and REFUSED[module] in str(fault)
        wrong += not fine
        print(
            f"{module:24} {name:40} {time.perf_counter() - begin:5.1f} s  {'' if fine else 'WRONG '}{told}", flush=True
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main())
