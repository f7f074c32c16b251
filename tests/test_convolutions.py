"""Convolutions over small maps: the values and gradients of torch's own, to the last few bits."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from captioning.kernels import convolutions
from captioning.kernels.convolutions import Conv2d, quicken
from captioning.vision.encoders import backbones, encoders

SHAPES = st.tuples(*[st.integers(1, 5)] * 5)
WAYS = st.tuples(*[st.integers(1, 3)] * 4, st.integers(0, 2), st.integers(0, 2), st.booleans())


def gradients(conv: nn.Module, images: Tensor) -> list[Tensor]:
    """The result, and the gradients of the input, the weight and the bias."""
    images = images.clone().requires_grad_()
    conv.zero_grad()
    found = conv(images)
    (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum().backward()
    assert images.grad is not None
    return [found.detach(), images.grad, *(p.grad.clone() for p in conv.parameters() if p.grad is not None)]


@given(SHAPES, WAYS)
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...], way: tuple[int, ...]) -> None:
    count, channels, made, height, width = shape
    kernel, stride, padding, bias = way[:2], way[2:4], way[4:6], bool(way[6])
    if height + 2 * padding[0] < kernel[0] or width + 2 * padding[1] < kernel[1]:
        return
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, made, kernel, stride, padding, bias=bias)
    images = torch.randn(count, channels, height, width)
    expected = gradients(plain, images)
    found = gradients(convolutions._like(plain), images)
    assert len(found) == 3 + bias
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_backbone_is_quickened_in_place_with_its_parameters() -> None:
    transform = backbones.transform_for("resnet18", 64, pretrained=False)
    body = encoders.build("resnet18", transform=transform, weights={}, seed=1).body
    before, images = dict(body.named_parameters()), torch.randn(2, 3, 64, 64)
    expected = body(images)
    quicken(body)
    assert {name: id(p) for name, p in body.named_parameters()} == {name: id(p) for name, p in before.items()}
    assert torch.equal(body(images), expected)
    kinds = {name: type(module) for name, module in body.named_modules() if isinstance(module, nn.Conv2d)}
    assert kinds.pop("layer2.0.downsample.0") is nn.Conv2d  # 1 x 1
    assert kinds["layer4.1.conv2"] is Conv2d


@pytest.mark.parametrize(
    ("conv", "quick"),
    [
        (nn.Conv2d(4, 4, 3), True),
        (nn.Conv2d(4, 4, 1), False),
        (nn.Conv2d(4, 4, 3, groups=2), False),
        (nn.Conv2d(4, 4, 3, dilation=2), False),
        (nn.Conv2d(4, 4, 3, padding="same"), False),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), False),
    ],
)
def test_what_it_cannot_stand_for_is_left(conv: nn.Conv2d, quick: bool) -> None:
    assert isinstance(quicken(nn.Sequential(conv))[0], Conv2d) is quick  # type: ignore[index]


def test_only_small_maps_that_are_trained_go_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.Size] = []
    real: Callable[..., Tensor] = convolutions._SmallMap.apply  # type: ignore[assignment]

    def apply(input: Tensor, *rest: object) -> Tensor:
        asked.append(input.shape)
        return real(input, *rest)

    monkeypatch.setattr(convolutions._SmallMap, "apply", apply)
    conv = Conv2d(2, 2, 3, padding=1)
    small, large = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 5)
    conv(large)
    with torch.no_grad():
        conv(small)
    assert not asked
    conv(small)
    assert asked == [small.shape]
    conv.requires_grad_(False)
    conv(small.requires_grad_())
    assert len(asked) == 1


def test_the_gradient_of_the_weight_lies_in_memory_as_the_weight() -> None:
    """Otherwise each step would copy it."""
    conv = Conv2d(8, 8, 3, padding=1).to(memory_format=torch.channels_last)
    conv(torch.randn(2, 8, 2, 2).contiguous(memory_format=torch.channels_last)).sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.stride() == conv.weight.stride()
