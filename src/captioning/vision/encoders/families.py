"""The families of backbones: a new one is one file here and one entry in `FAMILIES`."""

import difflib
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, fx

from captioning.system.errors import UserError
from captioning.vision.encoders import timm_models, torchvision_models
from captioning.vision.encoders.presets import Preset, Sides


class Family(Protocol):
    """A library of backbones. Where a method has a name, it is one of `names`."""

    @property
    def PREFIX(self) -> str:  # noqa: N802
        """What all of its names begin with, and those of no other family do; a library that is not loaded has one."""

    def names(self) -> list[str]:
        """The names of all backbones, sorted. Raises UserError where the library is not installed."""

    def preset(self, name: str) -> Preset:
        """What the published weights were trained with."""

    def gflops(self, name: str) -> float:
        """Multiplications and additions in one, of an image of the native size, in thousands of millions."""

    def sizes(self, name: str, *, pretrained: bool) -> Sides:
        """The sides of images that the backbone takes."""

    def build(self, name: str, image_size: int, *, drawn: bool) -> tuple[fx.GraphModule, set[str]]:
        """The backbone without its head, and the names in the state of the whole network.

        It reads normalised pixels (B, 3, S, S), and returns maps (B, D, H, W), or regions (B, R, D) without the tokens
        that are no patches. drawn: its weights are those that it has now; else others are loaded.
        """

    def without_head(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published state, under the names that `build` gives, without entries of the head."""


FAMILIES: tuple[Family, ...] = (torchvision_models, timm_models)


def of(name: str) -> Family:
    """The family of a backbone. Raises UserError, with the closest names, when `name` is none."""
    candidates = [family for family in FAMILIES if _named(family, name)]
    for family in candidates:
        if name in family.names():
            return family
    known = sorted(one for family in candidates for one in family.names())
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or ["resnet50", "mobilenet_v2"]
    raise UserError(f"encoder: {name!r} is no classification backbone; write {' or '.join(close)}")


def _named(family: Family, name: str) -> bool:
    """Can a name be one of this family? Others are not asked for theirs, which would load their library."""
    prefixes = [other.PREFIX for other in FAMILIES if other.PREFIX and name.startswith(other.PREFIX)]
    return family.PREFIX in (prefixes or [""])
