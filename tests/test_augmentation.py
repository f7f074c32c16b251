"""Images changed at random: what is off changes nothing, what is on does what it says, and captions stay true."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.training.encoder import augmentation
from captioning.training.encoder.augmentation import Augmentation, augment

CPU = torch.device("cpu")


def images(count: int = 6, side: int = 16, seed: int = 0) -> Tensor:
    """Smooth images that are not alike, with dark and bright places."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 300 - 20
    return torch.nn.functional.interpolate(coarse, side, mode="bilinear").clamp(0, 255).to(torch.uint8)


everything = st.builds(
    Augmentation,
    crop=st.floats(0.05, 1),
    image_size=st.sampled_from([None, 9, 16]),
    flip=st.sampled_from([0.0, 0.4, 1.0]),
    colour=st.floats(0, 0.9),
)


@given(options=everything, seed=st.integers(0, 99))
def test_images_stay_images_and_the_seed_decides(options: Augmentation, seed: int) -> None:
    pixels = images()
    before, chances = pixels.clone(), torch.full((6,), options.flip)
    found = []
    for _ in range(2):
        torch.manual_seed(seed)
        found.append(augment(pixels, chances, options))
    side = options.image_size or 16
    assert (found[0].shape, found[0].dtype) == ((6, 3, side, side), torch.uint8)
    assert torch.equal(found[0], found[1])
    assert torch.equal(pixels, before)


def test_off_it_draws_nothing_and_changes_nothing() -> None:
    torch.manual_seed(1)
    state, pixels = torch.get_rng_state(), images()
    assert augment(pixels, None, Augmentation()) is pixels
    assert torch.equal(torch.get_rng_state(), state)


def test_each_image_gets_a_draw_of_its_own() -> None:
    torch.manual_seed(0)
    same = images(1).expand(8, -1, -1, -1)
    for options in (Augmentation(crop=0.3), Augmentation(colour=0.5)):
        found = augment(same, None, options)
        assert len(found.flatten(1).unique(dim=0)) == 8
    assert len(augment(same, torch.full((8,), 0.5), Augmentation(flip=0.5)).flatten(1).unique(dim=0)) == 2


def test_what_is_mirrored_is_flipped_and_the_rest_is_not() -> None:
    pixels = images(4)
    assert torch.equal(augment(pixels, torch.ones(4), Augmentation(flip=1.0)), torch.flip(pixels, [3]))
    some = augmentation.mirrored(pixels, torch.tensor([True, False, False, True]))
    assert torch.equal(some[[1, 2]], pixels[[1, 2]])
    assert torch.equal(some[[0, 3]], torch.flip(pixels[[0, 3]], [3]))
    torch.manual_seed(0)
    chances = torch.tensor([0.0, 0.25, 1.0]).repeat(400)
    many = images(1).expand(1200, -1, -1, -1)
    turned = (augment(many, chances, Augmentation(flip=0.5)) != many).flatten(1).any(1)
    assert [turned[i::3].float().mean().item() for i in range(3)] == pytest.approx([0.0, 0.25, 1.0], abs=0.06)


@given(least=st.floats(0.05, 0.999), seed=st.integers(0, 99))
def test_boxes_lie_in_the_image_and_keep_their_share(least: float, seed: int) -> None:
    torch.manual_seed(seed)
    left, top, width, height = augmentation.boxes(200, least, CPU).unbind(1)
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
    assert (width * height).min() >= least - 1e-5
    assert (width / height).min() >= 3 / 4 - 1e-5
    assert (width / height).max() <= 4 / 3 + 1e-5
    assert (width * height).max() - (width * height).min() > 0.8 * (1 - least)


@pytest.mark.parametrize("size", [32, 20])
def test_a_crop_is_what_torchvision_resizes(size: int) -> None:
    pixels = images(3, 32)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(3, 1)
    assert torch.equal(augmentation.cropped(pixels, whole, 32), pixels)
    boxes = torch.tensor([[0.25, 0.5, 0.5, 0.5], [0.0, 0.0, 0.75, 1.0], [0.5, 0.25, 0.25, 0.375]])
    for image, box, found in zip(pixels, boxes, augmentation.cropped(pixels, boxes, size), strict=True):
        left, top, width, height = (int(32 * share) for share in box)
        expected = reference.resized_crop(image, top, left, height, width, [size, size], antialias=False)
        inner = (found.int() - expected.int()).abs()[:, 4:-4, 4:-4]  # its crop ends at the edge, ours sees beyond it
        assert inner.max() <= 1


def test_images_are_trained_on_in_a_size_of_their_own() -> None:
    pixels = images(6, 32)
    options = Augmentation(crop=0.5, image_size=20, flip=1.0, colour=0.2)
    assert augment(pixels, torch.ones(6), options).shape == (6, 3, 20, 20)
    whole = augment(pixels, None, Augmentation(image_size=16))
    assert (whole.int() - reference.resize(pixels, [16, 16], antialias=False).int()).abs().max() <= 1
    assert augment(pixels, None, Augmentation(image_size=32)) is pixels


@pytest.mark.parametrize(
    ("place", "function"),
    [(0, reference.adjust_brightness), (1, reference.adjust_contrast), (2, reference.adjust_saturation)],
)
@pytest.mark.parametrize("factor", [0.3, 0.9, 1.0, 1.6])
def test_colours_are_those_of_torchvision(place: int, function, factor: float) -> None:  # type: ignore[no-untyped-def]
    pixels = images()
    factors = torch.ones(3, 6)
    assert torch.equal(augmentation.coloured(pixels, factors), pixels)
    factors[place] = factor
    found = augmentation.coloured(pixels, factors)
    assert (found.int() - function(pixels, factor).int()).abs().max() <= 2  # it cuts to whole numbers on its way
    factors[place, 3:] = 1.0
    assert torch.equal(augmentation.coloured(pixels, factors)[3:], pixels[3:])


def test_images_whose_captions_say_a_side_are_never_mirrored() -> None:
    said = [
        (0, "a dog on the left"),
        (1, "a dog in the grass"),
        (2, "a bird flies"),
        (2, "the right-hand bird flies"),
        (3, "a bright light"),
        (4, "the rightmost cat sleeps"),
        (5, "leftovers on a plate"),
        (7, "a dog"),
    ]
    words = [caption.split() for _, caption in said]
    vocabulary = Vocabulary.count(words, 1)
    captions = EncodedCaptions.encode(words, [image for image, _ in said], vocabulary, 30)
    chances = augmentation.mirror_chances(captions, 9, vocabulary, 0.5)
    assert chances.dtype == np.float32
    assert np.flatnonzero(chances == 0).tolist() == [0, 2, 4]
    assert set(chances[[1, 3, 5, 6, 7, 8]]) == {np.float32(0.5)}
    unseen = Vocabulary((*SPECIAL, "a", "dog"))
    plain = EncodedCaptions.encode([["a", "dog"]], [0], unseen, 30)
    assert augmentation.mirror_chances(plain, 1, unseen, 0.3).tolist() == pytest.approx([0.3])
