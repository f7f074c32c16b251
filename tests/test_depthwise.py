"""Depthwise convolutions: torch's own values, its gradients in float32, and as near the truth in bfloat16."""

import copy
from itertools import pairwise

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.ao.nn import qat
from torch.ao.quantization import get_default_qat_qconfig

from captioning import kernels
from captioning.kernels import depthwise
from captioning.kernels.convolutions import quicken
from captioning.kernels.depthwise import Depthwise, DepthwiseSame
from captioning.vision.encoders import backbones, encoders
from tests.test_convolutions import gradients

SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(1, 9), st.integers(1, 9))
WAYS = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.booleans())
BFLOAT16 = 2.0**-8  # half of the distance of two neighbours, relative


def case(shape: tuple[int, ...], way: tuple[int, ...]) -> tuple[nn.Conv2d, Tensor] | None:
    """A convolution of torch's or timm's, and its input; None where the kernel is larger than the padded one.

    Every other one has a bias.
    """
    count, channels, height, width = shape
    kernel, stride, same = way[:2], way[2:4], way[4]
    padding = (kernel[0] // 2, kernel[1] // 2)
    if not same and (height + 2 * padding[0] < kernel[0] or width + 2 * padding[1] < kernel[1]):
        return None
    torch.manual_seed(0)
    options = {} if same else {"padding": padding}
    kind = Conv2dSame if same else nn.Conv2d
    conv = kind(channels, channels, kernel, stride, groups=channels, bias=sum(way) % 2 == 0, **options)
    return conv, torch.randn(count, channels, height, width)


def quick(conv: nn.Conv2d) -> Depthwise:
    made = depthwise.like(conv)
    assert made is not None
    assert made.weight is conv.weight
    return made


@given(SHAPES, WAYS)
def test_in_float32_all_is_as_ever(shape: tuple[int, ...], way: tuple[int, ...]) -> None:
    if (made := case(shape, way)) is None:
        return
    conv, images = made
    for ours, theirs in zip(gradients(quick(conv), images), gradients(conv, images), strict=True):
        assert torch.equal(ours, theirs)


@given(SHAPES, WAYS)
def test_in_bfloat16_gradients_are_the_true_ones(shape: tuple[int, ...], way: tuple[int, ...]) -> None:
    """Of the rounded images and weights; what is summed has been rounded too, so sums of magnitudes say how far."""
    if (made := case(shape, way)) is None:
        return
    conv, images = made
    conv.weight.data, images = conv.weight.data.bfloat16().float(), images.bfloat16().float()
    exact, sizes = gradients(conv.double(), images.double()), magnitudes(conv, images.double())
    conv.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(quick(conv), images)
    assert [one.dtype for one in found] == [torch.bfloat16, *[torch.float32] * (len(exact) - 1)]
    for ours, true, size in zip(found, exact, sizes, strict=True):
        assert bool(((ours - true).abs() <= 3 * BFLOAT16 * size + 1e-6).all())


def magnitudes(conv: nn.Conv2d, images: Tensor) -> list[Tensor]:
    """As `gradients`, of the sizes of all that is multiplied and summed."""
    conv, images = copy.deepcopy(conv), images.abs().requires_grad_()
    for parameter in conv.parameters():
        parameter.data.abs_()
    conv.zero_grad()
    found = conv(images)
    (found * torch.linspace(-1, 1, found.numel()).abs().view_as(found)).sum().backward()
    assert images.grad is not None
    return [found.detach(), images.grad, *(p.grad.clone() for p in conv.parameters() if p.grad is not None)]


def test_parts_cover_a_kernel_and_are_no_longer_than_three() -> None:
    for side in range(1, 12):
        parts = depthwise._parts(side)
        assert all(begin >= 0 and 1 <= length <= 3 for begin, length in parts)
        assert {place for begin, length in parts for place in range(begin, begin + length)} == {*range(side)}
        assert len(parts) == -(-side // 3)
        assert all(first < second for (first, _), (second, _) in pairwise(parts))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, groups=2, bias=False),
        nn.Conv2d(4, 8, 3, groups=4, bias=False),
        qat.Conv2d(4, 4, 3, groups=4, qconfig=get_default_qat_qconfig()),
        nn.Conv2d(4, 4, 3, groups=4, bias=False, dilation=2),
        nn.Conv2d(4, 4, 3, groups=4, bias=False, padding="same"),
        nn.Conv2d(4, 4, 3, groups=4, bias=False, padding=1, padding_mode="circular"),
    ],
)
def test_what_it_cannot_stand_for_is_left(conv: nn.Conv2d) -> None:
    assert depthwise.like(conv) is None
    assert quicken(nn.Sequential(conv))[0] is conv  # type: ignore[index]


def learnt(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The gradient of each weight of a convolution that is depthwise, in bfloat16."""
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        network(images).square().sum().backward()
    grouped = {n for n, module in network.named_modules() if isinstance(module, nn.Conv2d) and module.groups > 1}
    return {name: network.get_submodule(name).weight.grad.clone() for name in grouped}  # type: ignore[operator, union-attr]


def test_a_network_of_timm_learns_through_them_as_without() -> None:
    """EfficientNet-Lite0 has kernels of 3 x 3 and 5 x 5, with both kinds of padding."""
    torch.manual_seed(0)
    network, images = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval(), torch.rand(1, 3, 64, 64)
    expected, before = network(images), {name: id(p) for name, p in network.named_parameters()}
    theirs = learnt(network, images)
    quicken(network)
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(Depthwise) == 12
    assert kinds.count(DepthwiseSame) == 4
    assert {name: id(p) for name, p in network.named_parameters()} == before
    assert torch.equal(network(images), expected)
    ours = learnt(network, images)
    assert ours.keys() == theirs.keys()
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)  # another way was gone
    for name, gradient in ours.items():
        assert float((gradient - theirs[name]).norm() / theirs[name].norm()) < 0.05


def test_they_take_in_the_batchnorm_behind_them() -> None:
    transform = backbones.transform_for("timm/tf_efficientnet_lite0", 64, pretrained=False)
    body = encoders.build("timm/tf_efficientnet_lite0", transform=transform, weights={}).body.eval()
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = body(images)
    folded = encoders.fold_batchnorm(quicken(body).requires_grad_(False))
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    torch.testing.assert_close(folded(images), expected, rtol=1e-3, atol=1e-3)


def test_each_way_is_gone_where_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, torch.dtype, tuple[int, ...]]] = []
    to_input, to_weight = depthwise.conv2d_input, depthwise.conv2d_weight

    def input_(shape: torch.Size, weight: Tensor, *rest: object) -> Tensor:
        asked.append(("input", weight.dtype, tuple(weight.shape[2:])))
        return to_input(shape, weight, *rest)  # type: ignore[no-any-return, no-untyped-call]

    def weight_(seen: Tensor, shape: tuple[int, ...], *rest: object) -> Tensor:
        asked.append(("weight", seen.dtype, shape[2:]))
        return to_weight(seen, shape, *rest)  # type: ignore[no-any-return, no-untyped-call]

    monkeypatch.setattr(depthwise, "conv2d_input", input_)
    monkeypatch.setattr(depthwise, "conv2d_weight", weight_)
    half, images = torch.bfloat16, torch.randn(1, 2, 8, 8)
    for kernel, stride in ((3, 1), (5, 1), (3, 2)):
        conv = quick(nn.Conv2d(2, 2, kernel, stride, groups=2, bias=False))
        with torch.autocast("cpu", half):
            gradients(conv, images)
    assert asked == [
        ("input", half, (5, 5)),
        *[("weight", half, (3, 3))] * 4,
        ("input", torch.float32, (3, 3)),
        ("weight", half, (3, 3)),
    ]
    with torch.no_grad(), torch.autocast("cpu", half):
        conv(images)
    kernels.use(plain=True)
    try:
        with torch.autocast("cpu", half):
            gradients(conv, images)
    finally:
        kernels.use(plain=False)
    conv.requires_grad_(False)
    with torch.autocast("cpu", half):
        conv(images.requires_grad_()).sum().backward()
    assert len(asked) == 7
