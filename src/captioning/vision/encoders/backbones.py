"""The backbones there are: torchvision's classification networks, and the sizes of picture that each takes."""

import difflib
from typing import Literal

from torchvision import models

from captioning.system.errors import UserError
from captioning.vision.images import Transform

Crop = Literal["none", "centre"]
Size = int | Literal["native", "enlarged", "quick"]

INCEPTIONS = frozenset({"googlenet", "inception_v3"})  # their ImageNet weights turn the input to −1 … 1 themselves
_ENLARGED = 9 / 7  # from 224 to 288
_GREY = (0.5, 0.5, 0.5)
_LIGHT = 1.0  # GFLOP of an image of the native size, up to which a backbone is light
_QUICK = {True: (96, 128, 224), False: (48, 64, 96, 224)}  # sides in pixels for light backbones and others


def names() -> list[str]:
    """The names of all backbones, sorted."""
    return sorted(models.list_models(module=models))


def is_light(name: str) -> bool:
    """Does an image of the native size take at most 1 GFLOP?"""
    flops: float = models.get_model_weights(name).DEFAULT.meta["_ops"]
    return flops <= _LIGHT


def check_name(name: str) -> None:
    """Raise UserError, with the closest names, when `name` is no backbone."""
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=3, cutoff=0.4) or ["resnet50", "mobilenet_v2"]
        raise UserError(f"encoder: {name!r} is no classification backbone of torchvision; write {' or '.join(close)}")


def transform_for(name: str, image_size: Size, *, pretrained: bool, crop: Crop = "centre") -> Transform:
    """How a picture becomes the pixels of backbone `name`.

    image_size: a side in pixels; `native`, that of its ImageNet weights; `enlarged`, two sevenths more where the
    backbone takes that, since training on crops does better on larger images at test (Touvron et al. 2019); or `quick`,
    small enough to train from scratch on a CPU: 96 for a backbone of at most 1 GFLOP, else 48, or the next that fits.
    crop: what is seen of a picture that is no square. `none`: all of it, squeezed to one. `centre`: the middle;
    pretrained, as torchvision's preset for these weights cuts it, and another image_size scales its resize in
    proportion; from scratch, once the shorter side is image_size.
    From scratch, a channel goes from −1 to 1.
    Raises UserError when the name is unknown or the backbone does not take image_size.
    """
    check_name(name)
    preset = models.get_model_weights(name).DEFAULT.transforms()
    native, resize = preset.crop_size[0], preset.resize_size[0]
    size = _side(name, image_size, native, pretrained=pretrained)
    check_size(name, size, pretrained=pretrained)
    grey = not pretrained or name in INCEPTIONS
    centre = round(size * resize / native) if pretrained else size
    return Transform(
        image_size=size,
        resize=centre if crop == "centre" else None,
        interpolation=preset.interpolation.value,
        mean=_GREY if grey else preset.mean,
        std=_GREY if grey else preset.std,
    )


def _side(name: str, image_size: Size, native: int, *, pretrained: bool) -> int:
    if image_size == "native":
        return native
    if image_size == "enlarged":
        larger = round(native * _ENLARGED / 32) * 32  # whole regions
        return larger if _takes(name, larger, native, pretrained=pretrained)[1] else native
    if image_size == "quick":
        fitting = (side for side in _QUICK[is_light(name)] if _takes(name, side, native, pretrained=pretrained)[1])
        return next(fitting, native)
    return image_size


def check_size(name: str, size: int, *, pretrained: bool, key: str = "features.image_size") -> None:
    """Raise UserError when the backbone does not take pictures of this side in pixels."""
    native = models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    takes, fits = _takes(name, size, native, pretrained=pretrained)
    if not fits:
        raise UserError(f"{key}: {name} does not take {size} pixels; it takes {takes} (native: {native})")


def check_training_size(name: str, size: int | None, stored: int) -> None:
    """Raise UserError when a backbone for pictures of side `stored` cannot be trained on those of side `size`."""
    if size in (None, stored):
        return
    if name.startswith(("vit_", "maxvit_")):
        raise UserError(
            f"train.augment.image_size = {size}: {name} takes one size, and {stored} pixels are stored; leave it empty"
        )
    if not stored <= 2 * size <= 2 * stored:
        raise UserError(
            f"train.augment.image_size = {size}: {stored} pixels are stored (features.image_size); "
            f"write {-(-stored // 2)} to {stored}, or leave it empty"
        )
    check_size(name, size, pretrained=False, key="train.augment.image_size")


def _takes(name: str, size: int, native: int, *, pretrained: bool) -> tuple[str, bool]:
    """Which sizes a backbone takes, in words, and whether `size` is one."""
    least = models.get_model_weights(name).DEFAULT.meta["min_size"][0]
    if name.startswith("vit_"):
        patch = int(name.rpartition("_")[2])
        return (f"{native}", size == native) if pretrained else (f"multiples of {patch}", size % patch == 0)
    if name.startswith("maxvit_"):
        return f"multiples of {native}", size % native == 0
    if name.startswith("swin_"):
        return "32 and more", size >= 32  # windows are padded, whatever the published least size says
    return f"{least} and more", size >= least
