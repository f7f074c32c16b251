"""Encoders: any torchvision classification backbone, cut ahead of its pooling: pixels → regions.

B images, S side in pixels, R regions, D feature width, T tokens.
"""

import copy
import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from captioning.errors import UserError
from captioning.images import Transform

_HEADS = frozenset({"classifier", "head", "heads", "fc", "avgpool", "aux1", "aux2", "AuxLogits"})
_INCEPTIONS = frozenset({"googlenet", "inception_v3"})  # trained on inputs from −1 to 1, whatever their preset says
_RENAMED = (  # parameters that older files of torchvision's have under another name
    (re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


def names() -> list[str]:
    """The names of all backbones, sorted."""
    return sorted(models.list_models(module=models))


def check_name(name: str) -> None:
    """Raise UserError, with the closest names, when `name` is no backbone."""
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=3, cutoff=0.4) or ["resnet50", "mobilenet_v2"]
        raise UserError(f"encoder: {name!r} is no classification backbone of torchvision; say {' or '.join(close)}")


def transform_for(name: str, image_size: int | None, *, pretrained: bool) -> Transform:
    """How a picture becomes the pixels of backbone `name`; image_size None is the size of its ImageNet weights.

    Pretrained: torchvision's preset for these weights; another image_size scales its resize in proportion.
    From scratch: the shorter side is resized to image_size.
    Raises UserError when the name is unknown or the backbone does not take image_size.
    """
    check_name(name)
    preset = _preset(name)
    native, resize = preset.crop_size[0], preset.resize_size[0]
    size = native if image_size is None else image_size
    _check_size(name, size, pretrained=pretrained)
    mean, std = _normalisation(name)
    return Transform(
        image_size=size,
        resize=round(size * resize / native) if pretrained else size,
        interpolation=preset.interpolation.value,
        mean=mean,
        std=std,
    )


def _preset(name: str) -> Any:
    """torchvision's preprocessing for the newest ImageNet weights of backbone `name`."""
    return models.get_model_weights(name).DEFAULT.transforms()


def _normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel, of values from 0 to 1: a property of the backbone, trained or not."""
    if name in _INCEPTIONS:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    preset = _preset(name)
    return tuple(preset.mean), tuple(preset.std)


def _check_size(name: str, size: int, *, pretrained: bool) -> None:
    weights = models.get_model_weights(name).DEFAULT
    native, least = _preset(name).crop_size[0], weights.meta["min_size"][0]
    if name.startswith("vit_"):
        patch = int(name.rpartition("_")[2])
        takes, fits = (f"{native}", size == native) if pretrained else (f"multiples of {patch}", size % patch == 0)
    elif name.startswith("maxvit_"):
        takes, fits = f"multiples of {native}", size % native == 0
    elif name.startswith("swin_"):
        takes, fits = "32 and more", size >= 32  # windows are padded, whatever the published least size says
    else:
        takes, fits = f"{least} and more", size >= least
    if not fits:
        raise UserError(f"features.image_size: {name} does not take {size} pixels; it takes {takes} (native: {native})")


class Encoder(nn.Module):
    """uint8 pixels (B, 3, S, S) → regions (B, R, D), float32; their mean over R is what the backbone pools.

    `dim` is D and `regions` is R, found by running the network. Its state has torchvision's own names, so
    that any program which knows torchvision reads it.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, body: nn.Module, image_size: int) -> None:
        super().__init__()
        self.name = name
        self.body = body.to(memory_format=torch.channels_last)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in _normalisation(name))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        self._held: type[nn.Module] | tuple[type[nn.Module], ...] = ()
        self.register_state_dict_post_hook(_without_body)
        self.register_load_state_dict_pre_hook(_with_body)
        self.regions, self.dim = _dry_run(self, torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8)).shape[1:]

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) → (B, R, D)."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        found = self.body(torch.addcmul(self.shift, pixels.float(), self.scale))["regions"]
        if found.ndim == 4:  # (B, D, H, W)
            return found.flatten(2).transpose(1, 2).float()
        return found[:, 1:].float()  # (B, 1 + T, D): the class token is no region

    def hold(self, *kinds: type[nn.Module]) -> "Encoder":
        """Keep modules of these kinds in eval mode from now on, whatever `train` is told."""
        self._held = kinds
        return self.train(self.training)

    def train(self, mode: bool = True) -> "Encoder":
        """As in torch, but for the modules that are held."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, self._held):
                nn.Module.train(module, False)
        return self


def _without_body(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: dict[str, Any]) -> None:
    inner = f"{prefix}body."
    for key in [key for key in state if key.startswith(inner)]:
        state[prefix + key.removeprefix(inner)] = state.pop(key)


def _with_body(_module: nn.Module, state: dict[str, Any], prefix: str, *_rest: object) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}body.{key.removeprefix(prefix)}"] = state.pop(key)


def build(name: str, *, image_size: int, weights: Mapping[str, Tensor] | None = None, seed: int = 0) -> Encoder:
    """Backbone `name` without its head, for pictures of image_size, in eval mode.

    weights: its state under torchvision's names, where entries of the head are not read. None: drawn from
    `seed`, as torchvision initialises it; the global random state is neither read nor changed.
    Raises UserError when the name is unknown, the backbone does not take image_size, or the weights do not fit.
    """
    check_name(name)
    _check_size(name, image_size, pretrained=weights is not None)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = models.get_model(name, weights=None, **_options(name, image_size, drawn=weights is None)).eval()
    body = _cut(network, image_size)
    if weights is not None:
        body.load_state_dict(_fitting(name, weights, body.state_dict(), network.state_dict().keys()))
    return Encoder(name, body, image_size).eval()


def _options(name: str, image_size: int, *, drawn: bool) -> dict[str, Any]:
    if name.startswith("vit_"):
        return {"image_size": image_size}
    if name.startswith("maxvit_"):
        return {"input_size": (image_size, image_size)}
    if name in _INCEPTIONS or name.startswith("vgg"):
        return {"init_weights": drawn}
    return {}


def _cut(network: nn.Module, image_size: int) -> nn.Module:
    """The network up to the last result, ahead of its head, that still has more than one place.

    It is found by running the network. Small pictures can end in a grid of one place, so that the run is on
    a picture of 224 pixels, or more.
    """
    train, evaluation = get_graph_node_names(network, suppress_diff_warning=True)
    nodes = [node for node in evaluation if node in set(train) and node.split(".")[0] not in _HEADS][-8:]
    size = image_size if isinstance(network, models.VisionTransformer | models.MaxVit) else max(image_size, 224)
    results = _dry_run(_extractor(network, {node: node for node in nodes}), torch.zeros(1, 3, size, size))
    last = [node for node in nodes if results[node].ndim > 2 and results[node][0].numel() > results[node].shape[1]][-1]
    return _extractor(network, {last: "regions"})


def _extractor(network: nn.Module, nodes: dict[str, str]) -> nn.Module:
    extractor: nn.Module = create_feature_extractor(network, nodes, suppress_diff_warning=True)
    return extractor


def _dry_run(network: nn.Module, zeros: Tensor) -> Any:
    """What the network says of a black picture, in eval mode."""
    training = network.training
    network.eval()
    with torch.inference_mode():
        said = network(zeros)
    network.train(training)
    return said


def _fitting(name: str, weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], known: Any) -> dict[str, Tensor]:
    """The entries of `weights` that the body wants, under the names of today. Raises UserError when one does not fit."""
    given = {_today(key): tensor for key, tensor in weights.items() if key.split(".")[0] not in _HEADS}
    given = {key: torch.tensor(0) for key in wanted if key.endswith("num_batches_tracked")} | given
    faults = [f"{key} is missing" for key in wanted.keys() - given.keys()]
    faults += [f"{key} is unknown" for key in given.keys() - known]
    faults += [
        f"{key} has shape {tuple(given[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted.keys() & given.keys()
        if given[key].shape != wanted[key].shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"the weights are not those of {name}: {'; '.join(sorted(faults)[:3])}{more}")
    return {key: given[key] for key in wanted}


def _today(key: str) -> str:
    for old, new in _RENAMED:
        key = old.sub(new, key)
    return key


def freeze(encoder: Encoder) -> Encoder:
    """Make it a fixed function: no gradients, and always in eval mode, whatever its parent is told."""
    encoder.requires_grad_(False)
    return encoder.hold(nn.Module)


def batchnorm(encoder: Encoder, mode: Literal["batch", "eval"]) -> Encoder:
    """How BatchNorm acts in training: `batch` by the batch's statistics, `eval` by the stored ones, left as they are."""
    return encoder.hold() if mode == "batch" else encoder.hold(nn.modules.batchnorm._BatchNorm)


def folded(encoder: Encoder) -> Encoder:
    """A frozen copy for inference whose convolutions contain the BatchNorm behind them: the same function, faster."""
    encoder = freeze(copy.deepcopy(encoder).eval())
    body = encoder.body
    assert isinstance(body, fx.GraphModule)
    modules = dict(body.named_modules())
    for node in list(body.graph.nodes):
        before = node.args[0] if node.args else None
        if (
            node.op == "call_module"
            and isinstance(modules[node.target], nn.BatchNorm2d)
            and _only_feeds(before, modules)
        ):
            body.set_submodule(before.target, fuse_conv_bn_eval(modules[before.target], modules[node.target]))
            node.replace_all_uses_with(before)
            body.graph.erase_node(node)
    body.delete_all_unused_submodules()
    body.recompile()
    return encoder


def _only_feeds(node: Any, modules: Mapping[str, nn.Module]) -> bool:
    """Is the node a convolution with one reader?"""
    return node.op == "call_module" and isinstance(modules[node.target], nn.Conv2d) and len(node.users) == 1
