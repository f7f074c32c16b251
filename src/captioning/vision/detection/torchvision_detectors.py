"""torchvision's detectors, whose published weights were trained on COCO: all of them, by name.

Of Mask R-CNN and Keypoint R-CNN the boxes alone are read: the heads of masks and keypoints are left out.

S side in pixels, M objects of an image, R boxes, D numbers of a vector.
"""

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captioning.system.errors import UserError, reason, shown
from captioning.vision import imports

_ABSENT = "N/A"  # the name of a number that no class has
_WITHOUT = ("mask_roi_pool", "mask_head", "mask_predictor", "keypoint_roi_pool", "keypoint_head", "keypoint_predictor")
_EXACT = frozenset(  # published weights of these were trained with a BatchNorm that adds nothing to variances
    {"fasterrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn"}
)
_TWO_STAGES = ("fasterrcnn", "keypointrcnn", "maskrcnn")  # families with a head that makes a vector of a box
_SQUARE = 128  # pixels; a multiple of every stride
_NAMED = 3  # of many faults, so many are given


class Preset(NamedTuple):
    """What is published of a detector: the address of its weights, and its classes by number.

    `N/A` is the name of a number that is no class. The first number is that of the background.
    """

    url: str
    classes: tuple[str, ...]


class Boxes(NamedTuple):
    """The objects of an image, best first."""

    scores: Tensor  # (M,), 0 to 1
    classes: Tensor  # (M,), numbers
    boxes: Tensor  # (M, 4): left, top, right, bottom, in pixels


def _models() -> Any:
    return imports.torchvision().models


def names() -> list[str]:
    """The names of all detectors, sorted."""
    models = _models()
    return sorted(models.list_models(module=models.detection))


def check(name: str, others: tuple[str, ...]) -> None:
    """Raise UserError, with the closest names, unless `name` is a detector. others: what else may be written."""
    known = names()
    if name in known:
        return
    close = difflib.get_close_matches(name, [*others, *known], n=3, cutoff=0.4) or [
        *others,
        "fasterrcnn_resnet50_fpn_v2",
    ]
    raise UserError(
        f"objects: {name!r} is no source of objects, and no detector of torchvision; write {' or '.join(close)}"
    )


def check_box_head(name: str, suffix: str) -> None:
    """Raise UserError, with those that have one, unless the detector `name` has a box head. suffix: of their values."""
    if not name.startswith(_TWO_STAGES):
        fitting = [f"{one}{suffix}" for one in names() if one.startswith(_TWO_STAGES)]
        raise UserError(
            f"objects = {name}{suffix}: {name} has no box head, which makes a vector of a box; write "
            f"{name}, or {' or '.join(fitting)}"
        )


def preset(name: str) -> Preset:
    """What is published of a detector."""
    weights = _models().get_model_weights(name).DEFAULT
    return Preset(weights.url, tuple(weights.meta["categories"]))


def is_class(number: int, classes: tuple[str, ...]) -> bool:
    """Is this the number of a class, and not that of the background, or of none?"""
    return number > 0 and classes[number] != _ABSENT


def fitted(name: str, weights: Mapping[str, Tensor]) -> nn.Module:
    """A detector with these weights, under torchvision's names, in eval mode.

    The network is that of torchvision with its own weights, except that what normalises is not frozen: in eval mode
    both compute the same. The global random state is neither read nor changed. Raises UserError that names the first
    tensors which are missing, unknown or misshapen.
    """
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = _models().get_model(name, weights=None, weights_backbone=None).eval()
    kept = _without_heads(network, weights)
    _load(name, network, kept)
    if name in _EXACT:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    _settle(network)
    return network


def _without_heads(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the heads of masks and keypoints, of the network, and of what is returned of its weights."""
    heads = getattr(network, "roi_heads", None)
    left_out = tuple(f"roi_heads.{head}." for head in _WITHOUT)
    for head in _WITHOUT:
        if getattr(heads, head, None) is not None:
            setattr(heads, head, None)
    return {key: tensor for key, tensor in weights.items() if not key.startswith(left_out)}


def _load(name: str, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights, also under the names of older versions, which torchvision's modules know."""
    own = network.state_dict()
    faults = [
        f"{key} has shape {tuple(tensor.shape)}, not {tuple(own[key].shape)}"
        for key, tensor in weights.items()
        if key in own and own[key].shape != tensor.shape
    ]
    if not faults:
        try:
            missing, unknown = network.load_state_dict(dict(weights), strict=False)
        except RuntimeError as fault:  # one under an older name has another shape
            missing, unknown, faults = [], [], [shown(reason(fault))]
        faults += [f"{key} is missing" for key in missing] + [f"{key} is unknown" for key in unknown]
    if faults:
        more = f" and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise UserError(f"the weights are not those of {name}: {'; '.join(faults[:_NAMED])}{more}")


@torch.inference_mode()
def _settle(network: nn.Module) -> None:
    """Let the pooling of boxes learn the strides of its maps from a square.

    It would take them from the first image that it reads, and what is found in others may not depend on that.
    """
    heads = getattr(network, "roi_heads", None)
    if isinstance(heads, nn.Module) and isinstance(network.backbone, nn.Module):
        maps = network.backbone(torch.zeros(1, 3, _SQUARE, _SQUARE))
        pool: Any = heads.box_roi_pool
        pool(maps, [torch.tensor([[0.0, 0.0, 1.0, 1.0]])], [(_SQUARE, _SQUARE)])


@torch.inference_mode()
def find(network: nn.Module, pixels: Tensor) -> Boxes:
    """The objects of uint8 pixels (3, H, W), of any size: the network resizes and normalises by itself."""
    [found] = network([pixels.float() / 255])
    return Boxes(found["scores"], found["labels"], found["boxes"])


@torch.inference_mode()
def vectors(network: nn.Module, pixels: Tensor, boxes: Tensor) -> Tensor:
    """What the box head makes of boxes: of it, scores and refined boxes are linear maps.

    uint8 pixels (3, H, W) and boxes (R, 4) in these pixels → (R, D). Anderson et al. 2018 and VinVL read such vectors.
    """
    parts: Any = network
    images, _ = parts.transform([pixels.float() / 255])
    maps = parts.backbone(images.tensors)
    (height, width), (resized_height, resized_width) = pixels.shape[1:], images.image_sizes[0]
    across, down = resized_width / width, resized_height / height
    resized = boxes.to(pixels.device, torch.float32) * boxes.new_tensor([across, down, across, down]).to(pixels.device)
    made: Tensor = parts.roi_heads.box_head(parts.roi_heads.box_roi_pool(maps, [resized], images.image_sizes))
    return made
