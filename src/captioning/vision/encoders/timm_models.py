"""timm's classification networks (Wightman 2019): `timm/NAME`, or `timm/NAME.TAG`.

Regions are what the network's own `forward_features` returns, without class, distillation and register tokens. Where
timm pools by the average, their mean is what it pools, ahead of a norm that may follow. Heads that pool by attention or
by the class token are left out, and the mean is that of the patches.

B images, D feature width, H rows, W columns, R regions.
"""

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn

from captioning.system.errors import UserError, reason
from captioning.vision import imports
from captioning.vision.encoders import timm_graphs
from captioning.vision.encoders.presets import Preset

PREFIX = "timm/"
_HUB = "https://huggingface.co/{}/resolve/main/model.safetensors"
_RELEASES = "/pytorch-image-models/releases/"  # on GitHub; names of these files end in digits of their sha256
_HEAD = re.compile(r"(attn_pool|classifier|fc|fc_norm|head|head_dist|last_linear)\.(?!\d)")  # SelecSLS: head.0 is none
_SIDES = (32, 48, 64, 96, 112, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)  # those that a refusal chooses from


@cache
def names() -> list[str]:
    """See `families.Family`."""
    timm = imports.timm()
    return sorted(PREFIX + name for name in {*timm.list_models(), *timm.list_models(include_tags=True)})


@cache
def preset(name: str) -> Preset:
    """See `families.Family`."""
    config = _config(name)
    size = config.input_size[-1]
    return Preset(
        image_size=size,
        resize=math.floor(size / config.crop_pct),
        interpolation="bilinear" if config.interpolation == "bilinear" else "bicubic",
        mean=tuple(config.mean),
        std=tuple(config.std),
        url=(url := _url(config)),
        file=_file(name, url),
    )


def _config(name: str) -> Any:
    """timm's notes on the weights of this name: an instance of its `PretrainedCfg`."""
    models = imports.timm().models
    return models.get_pretrained_cfg(name.removeprefix(PREFIX)) or models.PretrainedCfg()


def _url(config: Any) -> str | None:
    """Of weights in timm's own layout, or None: a file of the hub, else one of timm's own releases."""
    if config.custom_load:
        return None
    if config.hf_hub_id:
        return _HUB.format(config.hf_hub_id) if config.hf_hub_filename in (None, "model.safetensors") else None
    return config.url if _RELEASES in (config.url or "") else None


def _file(name: str, url: str | None) -> str:
    """All files of the hub have one name, so that here they have the backbone's."""
    return url.rpartition("/")[2] if url and _RELEASES in url else f"{name.removeprefix(PREFIX)}.safetensors"


@cache
def gflops(name: str) -> float:
    """See `families.Family`. Counted over shapes, without values."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _run(name, preset(name).image_size)
    return float(counter.get_total_flops()) / 2e9


def sizes(name: str, *, pretrained: bool) -> "Tried":
    """See `families.Family`."""
    return Tried(name, pretrained)


class Tried:
    """The sides of images that a network takes: it is tried, without values. Pretrained, its state must stay as it is.

    fixed: a network that is told the side when it is built.
    """

    def __init__(self, name: str, pretrained: bool) -> None:
        self._name, self._pretrained = name, pretrained

    @property
    def fixed(self) -> bool:
        """See `presets.Sides`."""
        return _told(_architecture(self._name))

    def take(self, size: int) -> bool:
        """See `presets.Sides`."""
        native = preset(self._name).image_size
        if size == native:
            return True
        return _runs(self._name, size) and not (self._pretrained and _shapes(self._name, size) != self._native)

    @property
    def _native(self) -> dict[str, torch.Size]:
        return _shapes(self._name, preset(self._name).image_size)

    def __str__(self) -> str:
        native = preset(self._name).image_size
        taken = [side for side in sorted({*_SIDES, native}) if self.take(side)]
        return " or ".join(map(str, taken))


def _architecture(name: str) -> str:
    return name.removeprefix(PREFIX).partition(".")[0]


@cache
def _told(architecture: str) -> bool:
    """Does the network have to know the side of images when it is built?"""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        try:
            imports.timm().create_model(architecture, img_size=224)
        except TypeError as fault:
            if "img_size" in reason(fault):
                return False
            raise
        except (ValueError, AssertionError, RuntimeError):  # another side, perhaps, but it has been told
            return True
    return True


def _network(name: str, size: int) -> nn.Module:
    """timm's network for images of this side, in eval mode."""
    architecture = _architecture(name)
    network: nn.Module = imports.timm().create_model(
        architecture, **({"img_size": size} if _told(architecture) else {})
    )
    return network.eval()


def _run(name: str, size: int) -> Any:
    """The features of an image of this side, shapes without values."""
    with torch.device("meta"), torch.inference_mode():
        network = _network(name, size)
        return timm_graphs.features(network, torch.zeros(1, 3, size, size))


@cache
def _runs(name: str, size: int) -> bool:
    try:
        _run(name, size)
    except Exception:  # whatever the code of a model raises at a size for which it is not made
        return False
    return True


@cache
def _shapes(name: str, size: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {key: tensor.shape for key, tensor in _network(name, size).state_dict().items()}


def build(name: str, image_size: int, *, drawn: bool) -> tuple[fx.GraphModule, set[str]]:  # noqa: ARG001
    """See `families.Family`. timm draws all weights in any case."""
    network = _network(name, image_size)
    from timm.models import _features_fx as notes

    functions = tuple(function for function in notes.get_notrace_functions() if callable(function))
    images = torch.zeros(1, 3, image_size, image_size, device=next(network.parameters()).device)
    try:
        graph = timm_graphs.traced(network, set(notes.get_notrace_modules()), functions)
        return timm_graphs.with_regions(network, graph, images), set(network.state_dict())
    except timm_graphs.NoRegionsError as fault:
        raise UserError(f"encoder: {name} cannot be an encoder: {reason(fault)}") from None


def without_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """See `families.Family`."""
    return {key: tensor for key, tensor in weights.items() if not _HEAD.match(key)}
