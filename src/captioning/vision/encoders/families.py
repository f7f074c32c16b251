"""The families of backbones: a new one is one file here and one entry in `FAMILIES`."""

import difflib
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, fx

from captioning.system.errors import UserError
from captioning.vision.encoders import torchvision_models
from captioning.vision.encoders.presets import Preset, Sizes


class Family(Protocol):
    """A library of backbones. Where a method has a name, it is one of `names`."""

    def names(self) -> list[str]:
        """The names of all backbones, sorted."""

    def preset(self, name: str) -> Preset:
        """What the published weights were trained with."""

    def sizes(self, name: str, *, pretrained: bool) -> Sizes:
        """The sides of images that the backbone takes."""

    def build(self, name: str, image_size: int, *, drawn: bool) -> tuple[fx.GraphModule, set[str]]:
        """The backbone without its head, and the names in the state of the whole network.

        It reads normalised pixels (B, 3, S, S), and returns (B, D, H, W), or (B, 1 + R, D) with a class token first.
        drawn: its weights are those that it has now; else others are loaded.
        """

    def without_head(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state, under the names that `build` gives, without entries of the head."""


FAMILIES: tuple[Family, ...] = (torchvision_models,)


def names() -> list[str]:
    """The names of all backbones, sorted."""
    return sorted(name for family in FAMILIES for name in family.names())


def of(name: str) -> Family:
    """The family of a backbone. Raises UserError, with the closest names, when `name` is none."""
    for family in FAMILIES:
        if name in family.names():
            return family
    close = difflib.get_close_matches(name, names(), n=3, cutoff=0.4) or ["resnet50", "mobilenet_v2"]
    raise UserError(f"encoder: {name!r} is no classification backbone; write {' or '.join(close)}")
