"""Encoders against torchvision's own forward pass, and what they promise about state, size and mode."""

import dataclasses
import re

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from captioning.system.errors import UserError
from captioning.vision.encoders import backbones, encoders, families, torchvision_models
from captioning.vision.encoders.encoders import Encoder

FAMILIES = {  # name: (image size, regions, width)
    "alexnet": (64, 1, 256),
    "convnext_tiny": (64, 4, 768),
    "densenet121": (64, 4, 1024),
    "efficientnet_b0": (64, 4, 1280),
    "efficientnet_v2_s": (33, 4, 1280),
    "googlenet": (64, 4, 1024),
    "inception_v3": (107, 4, 2048),
    "maxvit_t": (224, 49, 512),
    "mnasnet0_5": (64, 4, 1280),
    "mobilenet_v2": (64, 4, 1280),
    "mobilenet_v3_small": (64, 4, 576),
    "regnet_y_400mf": (64, 4, 440),
    "resnet18": (32, 1, 512),
    "resnext50_32x4d": (64, 4, 2048),
    "shufflenet_v2_x0_5": (64, 4, 1024),
    "squeezenet1_1": (64, 9, 512),
    "swin_t": (64, 4, 768),
    "swin_v2_t": (64, 4, 768),
    "vgg11": (64, 4, 512),
    "vit_b_32": (64, 4, 768),
    "wide_resnet50_2": (64, 4, 2048),
}


def made(name: str, size: int, weights: dict[str, Tensor] | None = None, *, seed: int = 0) -> Encoder:
    transform = backbones.transform_for(name, size, pretrained=False)
    return encoders.build(name, transform=transform, weights=weights or {}, seed=seed)


def images(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def trained(network: nn.Module) -> nn.Module:
    """The network with BatchNorm statistics of real activations, so that these are neither zero nor all alike."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    return network.eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_regions_and_loses_its_head(name: str) -> None:
    size, regions, width = FAMILIES[name]
    encoder = made(name, size)
    with torch.inference_mode():
        found = encoder(images(2, size))
    assert (found.shape, found.dtype) == ((2, regions, width), torch.float32)
    assert (encoder.regions, encoder.dim, encoder.training) == (regions, width, False)
    assert encoder.grid == (round(regions**0.5), round(regions**0.5))
    assert not any(1000 in tensor.shape for tensor in encoder.body.state_dict().values())
    assert (found[0] - found[1]).abs().max() > 0


class Fixed(nn.Module):
    """A network that says the same of every image."""

    def __init__(self, found: Tensor) -> None:
        super().__init__()
        self.found = nn.Parameter(found)

    def forward(self, _pixels: Tensor) -> Tensor:
        return self.found


def test_regions_may_be_a_grid_that_is_not_square_or_no_grid() -> None:
    transform = backbones.transform_for("resnet18", 64, pretrained=False)
    oblong = Encoder("oblong", Fixed(torch.randn(1, 3, 2, 5)), transform)
    assert (oblong.regions, oblong.dim, oblong.grid) == (10, 3, (2, 5))
    tokens = Encoder("tokens", Fixed(torch.randn(1, 6, 3)), transform)
    assert (tokens.regions, tokens.dim, tokens.grid) == (6, 3, None)


def test_no_family_is_forgotten() -> None:
    stems = {re.split(r"[\d_]", name)[0] for name in torchvision_models.names()}
    assert stems == {re.split(r"[\d_]", name)[0] for name in FAMILIES}


@pytest.mark.parametrize(
    ("name", "layer", "options", "tolerance"),
    [
        ("resnet18", "avgpool", {}, 1e-4),
        ("mobilenet_v3_small", "avgpool", {}, 1e-4),
        ("swin_t", "avgpool", {}, 1e-5),
        ("vit_b_32", "encoder.ln", {"image_size": 64}, 1e-5),
        ("googlenet", "avgpool", {"transform_input": True, "init_weights": False}, 1e-3),
    ],
)
def test_regions_are_what_torchvision_pools(
    name: str, layer: str, options: dict[str, object], tolerance: float
) -> None:
    """torchvision's whole network on its own normalisation, caught by a hook."""
    torch.manual_seed(2)
    network = models.get_model(name, weights=None, **options)
    caught: list[Tensor] = []
    trained(network)
    network.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: caught.append(output))
    pretrained = "image_size" not in options
    transform = backbones.transform_for(name, 64, pretrained=pretrained)
    preset = models.get_model_weights(name).DEFAULT.transforms()
    mean, std = (preset.mean, preset.std) if pretrained else ([0.5] * 3, [0.5] * 3)
    pixels = images(2, 64)
    with torch.inference_mode():
        network((pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
        regions = encoders.build(name, transform=transform, weights=network.state_dict())(pixels)
    expected = caught[-1]
    assert (expected[0] - expected[1]).abs().max() > 0.1
    if expected.ndim == 3:
        torch.testing.assert_close(regions, expected[:, 1:], atol=tolerance, rtol=tolerance)
    else:
        torch.testing.assert_close(regions.mean(1), expected.flatten(1), atol=tolerance, rtol=tolerance)


def test_regions_lie_row_by_row() -> None:
    encoder, network = made("resnet18", 96), models.resnet18()
    network.load_state_dict(encoder.body.state_dict(), strict=False)
    stem = nn.Sequential(*list(network.eval().children())[:-2])
    pixels = images(1, 96)
    with torch.inference_mode():
        expected = stem(pixels / 127.5 - 1)  # (1, 512, 3, 3)
        torch.testing.assert_close(encoder(pixels)[0, 5], expected[0, :, 1, 2], atol=1e-5, rtol=1e-5)


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = made("squeezenet1_1", 64, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(8)
    again, other = (made("squeezenet1_1", 64, seed=seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_a_frozen_encoder_is_a_fixed_function() -> None:
    encoder = encoders.freeze(made("resnet18", 32).train())
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_folding_batchnorm_changes_no_feature(name: str) -> None:
    encoder = encoders.freeze(made(name, 64, trained(models.get_model(name)).state_dict()))
    folded, pixels = encoders.folded(encoder), images(2, 64)
    with torch.inference_mode():
        expected = encoder(pixels)
        torch.testing.assert_close(folded(pixels), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(module.training for module in folded.modules())


class Twice(nn.Module):
    """A convolution that BatchNorm reads, and the sum too: it cannot be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        nn.init.constant_(self.norm.weight, 3.0)

    def forward(self, pixels: Tensor) -> Tensor:
        convolved = self.conv(pixels)
        return convolved + self.norm(convolved)


def test_a_convolution_with_two_readers_is_not_folded() -> None:
    encoder = encoders.freeze(Encoder("twice", Twice(), backbones.transform_for("resnet18", 32, pretrained=False)))
    torch.testing.assert_close(encoders.folded(encoder)(images(1, 32)), encoder(images(1, 32)))


@pytest.mark.parametrize(
    ("name", "pattern", "old_name", "example"),
    [
        ("vit_b_32", r"\.mlp\.0\.", ".mlp.linear_1.", "encoder.layers.encoder_layer_0.mlp.linear_1.weight"),
        ("densenet121", r"(layer\d+\.(?:norm|conv))([12])", r"\1.\2", "features.denseblock1.denselayer1.norm.1.weight"),
    ],
)
def test_old_names_and_files_without_counters_are_understood(
    name: str, pattern: str, old_name: str, example: str
) -> None:
    today = models.get_model(name, weights=None, **({"image_size": 32} if name == "vit_b_32" else {})).state_dict()
    old = {re.sub(pattern, old_name, key): value for key, value in today.items() if "num_batches" not in key}
    assert example in old
    found = made(name, 32, old).body.state_dict()
    assert all(torch.equal(today[key], found[key]) for key in found)


def test_weights_that_do_not_fit_are_named() -> None:
    state = made("resnet18", 32).body.state_dict()
    head = {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
    made("resnet18", 32, state | head)
    missing = {key: value for key, value in state.items() if key != "conv1.weight"}
    for weights, said in [
        (missing, "conv1.weight is missing"),
        (state | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, r"conv1.weight has shape \(64, 3, 3, 3\), not \(64, 3, 7"),
        (state | {"layer1.2.conv1.weight": torch.zeros(1)}, "layer1.2.conv1.weight is unknown"),
        (models.resnet34().state_dict(), "and 93 more"),
    ]:
        with pytest.raises(UserError, match=rf"not those of resnet18: .*{said}"):
            made("resnet18", 32, weights)


def test_an_unknown_name_brings_the_closest() -> None:
    with pytest.raises(UserError, match=r"'resnet-50' is no .* resnet50"):
        backbones.transform_for("resnet-50", "native", pretrained=True)
    with pytest.raises(UserError, match="fcn_resnet50"):
        families.of("fcn_resnet50")  # segmentation


@pytest.mark.parametrize(
    ("name", "size", "pretrained", "takes"),
    [
        ("vit_b_16", 256, True, "takes 224 "),
        ("vit_b_16", 100, False, "takes multiples of 16 "),
        ("maxvit_t", 64, True, "takes multiples of 224 "),
        ("inception_v3", 64, False, "takes 75 and more "),
        ("alexnet", 32, True, "takes 63 and more "),
    ],
)
def test_a_size_that_a_backbone_does_not_take(name: str, size: int, pretrained: bool, takes: str) -> None:
    with pytest.raises(UserError, match=f"features.image_size: {name} does not take {size} pixels; it {takes}"):
        backbones.transform_for(name, size, pretrained=pretrained)


@pytest.mark.parametrize(
    ("name", "size", "stored", "complaint"),
    [
        ("vit_b_16", 208, 224, "vit_b_16 takes one size, and 224 pixels are stored; leave it empty"),
        ("maxvit_t", 224, 448, "maxvit_t takes one size, and 448 "),
        ("mobilenet_v2", 289, 288, "288 pixels are stored .* write 144 to 288, or leave it empty"),
        ("mobilenet_v2", 143, 288, "write 144 to 288"),
        ("inception_v3", 64, 96, "inception_v3 does not take 64 pixels; it takes 75 and more "),
    ],
)
def test_a_size_that_is_not_for_training(name: str, size: int, stored: int, complaint: str) -> None:
    with pytest.raises(UserError, match=f"train.augment.image_size.*{complaint}"):
        backbones.check_training_size(name, size, stored)


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v2", 144), ("mobilenet_v2", None), ("vit_b_16", 288)])
def test_a_size_that_is_for_training(name: str, size: int | None) -> None:
    backbones.check_training_size(name, size, 288)


@pytest.mark.parametrize(
    ("name", "size", "pretrained", "expected"),
    [
        ("mobilenet_v2", "native", True, (224, 232, "bilinear", 0.485)),
        ("mobilenet_v2", 112, True, (112, 116, "bilinear", 0.485)),
        ("resnet18", 64, False, (64, 64, "bilinear", 0.5)),
        ("vit_h_14", "native", True, (518, 518, "bicubic", 0.485)),
        ("efficientnet_v2_l", "native", True, (480, 480, "bicubic", 0.5)),
        ("inception_v3", "native", True, (299, 342, "bilinear", 0.5)),
        ("mobilenet_v2", "enlarged", True, (288, 298, "bilinear", 0.485)),
        ("vgg16", "enlarged", True, (288, 329, "bilinear", 0.485)),
        ("vit_b_16", "enlarged", True, (224, 256, "bilinear", 0.485)),
        ("vit_b_16", "enlarged", False, (288, 288, "bilinear", 0.5)),
        ("maxvit_t", "enlarged", True, (224, 224, "bicubic", 0.485)),
    ],
)
def test_transforms(name: str, size: backbones.Size, pretrained: bool, expected: tuple[int, int, str, float]) -> None:
    found = backbones.transform_for(name, size, pretrained=pretrained)
    assert (found.image_size, found.resize, found.interpolation, found.mean[0]) == expected
    whole = backbones.transform_for(name, size, pretrained=pretrained, crop="none")
    assert whole == dataclasses.replace(found, resize=None)
