"""Vectors at boxes: where they are, their box code, and what decoders make of them."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from captioning import decoders
from captioning.data.objects.labels import Found
from captioning.data.objects.placing import place, seen
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.base import AttendingDecoder
from captioning.vision.encoders.at_boxes import CODE, Places, at_boxes, coded, mirrored, pooled
from captioning.vision.encoders.encoded import of_regions
from captioning.vision.images import Transform
from tests.special import PAD
from tests.variants import ATTENDING, FEATURES, VARIANTS, WORDS, captions, numbered, options

GRID = (4, 6)
VOCABULARY = Vocabulary((*SPECIAL, "dog", "traffic", "light"))
SQUARE = Transform(64, None, "bilinear", (0.5,) * 3, (0.5,) * 3)
DOG, LIGHT, ZEBRA = (
    Found("dog", 0.9, (0.0, 0.0, 50.0, 100.0)),
    Found("traffic light", 0.8, (50.0, 50.0, 150.0, 100.0)),
    Found("zebra", 0.7, (190.0, 0.0, 200.0, 10.0)),
)


def ramp() -> Tensor:
    """A grid whose features are x and y of each cell's middle, as shares: (1, 24, 2)."""
    y, x = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(6) + 0.5) / 6, indexing="ij")
    return torch.stack([x, y], dim=2).view(1, 24, 2)


def test_a_vector_is_that_of_the_middle_of_its_box_where_features_are_a_ramp() -> None:
    boxes = torch.tensor([[[0.25, 0.25, 0.75, 0.75], [0.2, 0.3, 0.4, 0.8], [0.0, 0.0, 1.0, 1.0]]])
    expected = (boxes[..., :2] + boxes[..., 2:]) / 2
    torch.testing.assert_close(pooled(ramp(), GRID, boxes), expected, atol=1e-5, rtol=1e-5)


def test_a_vector_of_a_box_is_the_mean_of_7_by_7_bilinear_points() -> None:
    """Held against torch's own sampling."""
    regions = torch.randn(2, 24, 5)
    boxes = torch.tensor([[[0.1, 0.2, 0.5, 0.9]], [[0.0, 0.0, 1.0, 1.0]]])
    steps = (torch.arange(7) + 0.5) / 7
    for image, (left, top, right, bottom) in enumerate(boxes[:, 0].tolist()):
        x, y = left + steps * (right - left), top + steps * (bottom - top)
        points = torch.stack(torch.meshgrid(2 * x - 1, 2 * y - 1, indexing="xy"), dim=2)[None]
        maps = regions[image].T.view(1, 5, *GRID)
        sampled = functional.grid_sample(maps, points, align_corners=False, padding_mode="border")
        found = pooled(regions, GRID, boxes)[image, 0]
        torch.testing.assert_close(found, sampled.mean((2, 3))[0], atol=1e-5, rtol=1e-5)


def test_each_image_has_its_own_vectors_and_the_mean_is_that_of_the_grid() -> None:
    regions = torch.randn(3, 24, 5)
    found = place([[], [Found("dog", 1.0, (0.0, 0.0, 0.5, 1.0))], []], VOCABULARY, "labels").of(torch.arange(3).numpy())
    both = at_boxes(of_regions(regions), GRID, found)
    assert both.regions is not None
    torch.testing.assert_close(both.mean, regions.mean(1))
    alone = at_boxes(of_regions(regions[1:2]), GRID, Places(*(part[1:2] for part in found)))
    assert alone.regions is not None
    torch.testing.assert_close(both.regions[1:2], alone.regions)
    moved = both.regions[0, 0] - both.regions[2, 0]
    assert moved.abs().max() > 1e-3


def test_vectors_of_mirrored_images_are_those_at_mirrored_boxes() -> None:
    regions = torch.randn(1, 24, 5)
    flipped = regions.view(1, *GRID, 5).flip(2).reshape(1, 24, 5)
    boxes = torch.tensor([[[0.1, 0.2, 0.4, 0.9], [0.0, 0.0, 1.0, 1.0]]])
    there = pooled(flipped, GRID, mirrored(boxes))
    torch.testing.assert_close(there, pooled(regions, GRID, boxes), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mirrored(mirrored(boxes)), boxes)


def test_objects_are_placed_after_the_whole_image_with_their_names_in_a_row() -> None:
    shares = [seen([DOG, LIGHT, ZEBRA], (200, 100), SQUARE), []]
    made = place(shares, VOCABULARY, "labels")
    assert made.mask.tolist() == [[True] * 4, [True, False, False, False]]
    assert made.boxes[0].tolist() == [
        [0, 0, 1, 1],
        [0, 0, 0.25, 1],
        [0.25, 0.5, 0.75, 1],
        pytest.approx([0.95, 0, 1, 0.1]),
    ]
    unknown = VOCABULARY.special.unk
    assert made.tags.tolist() == [[4, 5, 6, unknown], [PAD] * 4]
    nameless = place(shares, VOCABULARY, "boxes")
    assert nameless.tags.shape == (2, 0)
    assert (nameless.boxes == made.boxes).all()
    assert (nameless.mask == made.mask).all()


def test_at_most_36_objects_and_29_tags_are_kept() -> None:
    many = [DOG] * 30 + [LIGHT] * 30
    made = place([seen(many, (200, 100), SQUARE)], VOCABULARY, "labels")
    assert made.boxes.shape == (1, 37, 4)
    assert made.tags.tolist() == [[4] * 29]


def test_a_crop_cuts_boxes_and_leaves_out_what_it_does_not_show() -> None:
    """Of 200 × 100 pixels a centre crop takes those from 50 to 150."""
    crop = Transform(64, 64, "bilinear", (0.5,) * 3, (0.5,) * 3)
    assert seen([DOG, LIGHT, ZEBRA], (200, 100), crop) == [LIGHT._replace(box=(0.0, 0.5, 1.0, 1.0))]
    half = Found("dog", 0.9, (0.0, 0.0, 100.0, 100.0))
    assert seen([half], (200, 100), crop)[0].box == (0.0, 0.0, 0.5, 1.0)


def test_the_box_code_is_behind_vectors_and_mean() -> None:
    encoded = at_boxes(of_regions(ramp()), GRID, places(torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.5, 1.0]]])))
    whole = coded(encoded)
    assert whole.regions is not None
    assert whole.mean[0, 2:].tolist() == [0, 0, 1, 1, 1, 1]
    assert whole.regions[0, :, 2:].tolist() == [[0, 0, 1, 1, 1, 1], [0.25, 0.5, 0.5, 1, 0.25, 0.5]]
    assert coded(of_regions(ramp())).mean.shape == (1, 2)


def places(boxes: Tensor) -> Places:
    return Places(torch.ones(boxes.shape[:2], dtype=torch.bool), boxes, torch.zeros(len(boxes), 0, dtype=torch.long))


@pytest.mark.parametrize("variant", ATTENDING)
def test_decoders_read_where_an_object_is_and_nothing_beyond_the_mask(variant: str) -> None:
    torch.manual_seed(1)
    name = VARIANTS[variant][0]
    decoder = decoders.build(name, numbered(WORDS), FEATURES, options(variant), boxed=True).eval()
    assert isinstance(decoder, AttendingDecoder)
    tokens, owner = captions(2, 4), torch.tensor([0, 1])
    boxes = torch.rand(2, 3, 4).sort(2).values
    encoded = of_regions(torch.randn(2, 3, FEATURES))._replace(
        boxes=boxes, mask=torch.tensor([[True] * 3, [True, True, False]])
    )
    said = decoder(encoded, tokens, owner)
    boxes_moved = decoder(encoded._replace(boxes=boxes.flip(1)), tokens, owner)
    assert (said - boxes_moved).abs().amax((1, 2)).min() > 1e-4
    changed = boxes.clone()
    changed[1, 2] = 0.5
    torch.testing.assert_close(decoder(encoded._replace(boxes=changed), tokens, owner), said)
    assert decoder.attention(encoded, tokens, owner)[1, :, 2].abs().max() == 0


def test_a_decoder_for_objects_is_wider_by_the_box_code() -> None:
    built = [
        decoders.build("transformer", numbered(WORDS), FEATURES, options("transformer"), boxed=boxed).memory[0]  # type: ignore[union-attr,index]
        for boxed in (False, True)
    ]
    assert [layer.in_features for layer in built] == [FEATURES, FEATURES + CODE]
