"""How an image becomes the pixels that a backbone reads, and which sizes it takes."""

from typing import Literal

from captioning.system.errors import UserError
from captioning.vision.encoders import families
from captioning.vision.images import Transform

Crop = Literal["none", "centre"]
Size = int | Literal["native", "enlarged", "quick"]

_ENLARGED = 9 / 7  # from 224 to 288
_GREY = (0.5, 0.5, 0.5)
_LIGHT = 1.0  # GFLOP of an image of the native size, up to which a backbone is light
_QUICK = {True: (96, 128, 224), False: (48, 64, 96, 224)}  # sides in pixels for light backbones and others


def is_light(name: str) -> bool:
    """Does an image of the native size take at most 1 GFLOP?"""
    return families.of(name).gflops(name) <= _LIGHT


def transform_for(name: str, image_size: Size, *, pretrained: bool, crop: Crop = "centre") -> Transform:
    """How an image becomes the pixels of backbone `name`.

    image_size: a side in pixels; `native`, that of its ImageNet weights; `enlarged`, two sevenths more where the
    backbone takes that, since training on crops does better on larger images at test (Touvron et al. 2019); or `quick`,
    small enough to train from scratch on a CPU: 96 for a backbone of at most 1 GFLOP, else 48, or the next that fits.
    crop: what is seen of an image that is no square. `none`: all of it, squeezed to one. `centre`: the middle;
    pretrained, as the preset of these weights cuts it, and another image_size scales its resize in
    proportion; from scratch, once the shorter side is image_size.
    From scratch, a channel goes from −1 to 1.
    Raises UserError when the name is unknown or the backbone does not take image_size.
    """
    preset = families.of(name).preset(name)
    size = _side(name, image_size, preset.image_size, pretrained=pretrained)
    check_size(name, size, pretrained=pretrained)
    centre = round(size * preset.resize / preset.image_size) if pretrained else size
    return Transform(
        image_size=size,
        resize=centre if crop == "centre" else None,
        interpolation=preset.interpolation,
        mean=preset.mean if pretrained else _GREY,
        std=preset.std if pretrained else _GREY,
    )


def _side(name: str, image_size: Size, native: int, *, pretrained: bool) -> int:
    sizes = families.of(name).sizes(name, pretrained=pretrained)
    if image_size == "native":
        return native
    if image_size == "enlarged":
        larger = round(native * _ENLARGED / 32) * 32  # whole regions
        return larger if sizes.take(larger) else native
    if image_size == "quick":
        return next((side for side in _QUICK[is_light(name)] if sizes.take(side)), native)
    return image_size


def check_size(name: str, size: int, *, pretrained: bool, key: str = "features.image_size") -> None:
    """Raise UserError when the backbone does not take images of this side in pixels."""
    family = families.of(name)
    sizes, native = family.sizes(name, pretrained=pretrained), family.preset(name).image_size
    if not sizes.take(size):
        raise UserError(f"{key}: {name} does not take {size} pixels; it takes {sizes} (native: {native})")


def check_training_size(name: str, size: int | None, stored: int) -> None:
    """Raise UserError when a backbone for images of side `stored` cannot be trained on those of side `size`."""
    if size in (None, stored):
        return
    if families.of(name).sizes(name, pretrained=False).fixed:
        raise UserError(
            f"train.augment.image_size = {size}: {name} takes one size, and {stored} pixels are stored; leave it empty"
        )
    if not stored <= 2 * size <= 2 * stored:
        raise UserError(
            f"train.augment.image_size = {size}: {stored} pixels are stored (features.image_size); "
            f"write {-(-stored // 2)} to {stored}, or leave it empty"
        )
    check_size(name, size, pretrained=False, key="train.augment.image_size")
