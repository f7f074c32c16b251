"""Encoders of timm against timm's own forward pass, what is read of its notes, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from captioning.data.network import downloads, pretrained
from captioning.data.network.downloads import Fetched
from captioning.system.errors import UserError
from captioning.training.encoder.blocks import blocks
from captioning.vision import imports
from captioning.vision.encoders import backbones, encoders, families, timm_models
from captioning.vision.encoders.weights import read_weights
from tests.every_timm import REFUSED, SMALL, look
from tests.test_division import cut, tuned
from tests.test_encoders import images, made

KINDS = {  # name: (side, regions, width); `python -m tests.every_timm` looks at one of each module
    "timm/test_resnet": (64, 4, 96),
    "timm/test_efficientnet": (64, 4, 256),
    "timm/mobilenetv3_small_050": (64, 4, 288),
    "timm/test_convnext": (64, 4, 64),
    "timm/test_vit": (64, 16, 64),  # a class token
    "timm/mixer_s32_224": (64, 4, 512),  # no tokens but patches
    "timm/swin_tiny_patch4_window7_224": (64, 4, 768),  # (B, H, W, D)
}


def network(name: str, **options: Any) -> nn.Module:
    """timm's own, whose BatchNorm is not the identity."""
    torch.manual_seed(3)
    found: nn.Module = timm.create_model(name.removeprefix("timm/"), **options)
    for module in found.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, least, most in (
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.5, 1.5),
                (module.weight, 0.5, 1.5),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, least, most)
    return found.eval()


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_a_grid_row_by_row_and_loses_its_head(name: str) -> None:
    side, regions, width = KINDS[name]
    assert look(name, side) == (side, regions, width)


@pytest.mark.parametrize(
    ("name", "options", "ahead"),
    [
        ("timm/test_resnet", {}, 0),
        ("timm/test_efficientnet", {}, 0),
        ("timm/test_vit", {"img_size": 64}, 1),
        ("timm/mixer_s32_224", {"img_size": 64}, 0),
        ("timm/swin_tiny_patch4_window7_224", {"img_size": 64}, 0),
    ],
)
def test_regions_are_what_timm_pools(name: str, options: dict[str, int], ahead: int) -> None:
    own, pixels = network(name, **options), images(2, 64)
    encoder = encoders.freeze(made(name, 64, own.state_dict()))
    with torch.inference_mode():
        found = own.forward_features(pixels / 127.5 - 1)
        expected = pooled(found, own, ahead)
        torch.testing.assert_close(encoder(pixels).mean(1), expected, atol=1e-5, rtol=1e-5)
        scale = expected.abs().max().item()
        torch.testing.assert_close(encoders.folded(encoder)(pixels).mean(1), expected, atol=1e-4 * scale, rtol=1e-3)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "patches"),
    [
        ("timm/vit_base_patch32_clip_224", 7),
        ("timm/vit_base_patch16_siglip_224", 14),  # no class token; a head that pools by attention
        ("timm/vit_small_patch14_dinov2", 37),
        ("timm/vit_small_patch14_reg4_dinov2", 37),
        ("timm/deit_tiny_distilled_patch16_224", 14),
    ],
)
def test_patches_of_towers_are_regions_and_nothing_else_is(name: str, patches: int) -> None:
    with torch.device("meta"):
        encoder = made(name, timm_models.preset(name).image_size)
    assert encoder.grid == (patches, patches)
    assert not any("attn_pool" in key or key.startswith("head") for key in encoder.body.state_dict())


def pooled(found: Tensor, own: nn.Module, ahead: int) -> Tensor:
    """As timm's own average pooling has it: of the places of a map, or of the tokens behind the first ones."""
    if found.ndim == 3:
        return found[:, ahead:].mean(1)
    return found.mean((1, 2) if getattr(own, "output_fmt", "") == "NHWC" else (2, 3))


def test_the_mean_is_what_timms_own_head_pools() -> None:
    for name in ("timm/test_resnet", "timm/test_efficientnet"):
        own, pixels = network(name), images(2, 64)
        encoder = made(name, 64, own.state_dict())
        with torch.inference_mode():
            expected = own.forward_head(own.forward_features(pixels / 127.5 - 1), pre_logits=True)
            torch.testing.assert_close(encoder(pixels).mean(1), expected, atol=1e-5, rtol=1e-5)


def test_an_activation_in_a_norm_stays_behind_the_folded_convolution() -> None:
    encoder = encoders.freeze(made("timm/test_efficientnet", 64))
    folded = encoders.folded(encoder)
    before, after = (
        sum(isinstance(module, nn.BatchNorm2d) for module in one.modules()) for one in (encoder.body, folded.body)
    )
    assert before > after == 0


@pytest.mark.parametrize(
    ("name", "block"),
    [("timm/test_resnet", "layer4"), ("timm/test_vit", "blocks.3"), ("timm/test_convnext", "stages.3")],
)
def test_frozen_blocks_run_apart(name: str, block: str) -> None:
    training, pixels = tuned(name, 64, block), images(2, 64)
    divided, whole = cut(training), training.encoder(pixels)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in divided.front.modules())
    scale = whole.abs().max().item()
    torch.testing.assert_close(divided.regions(divided.ahead(pixels)), whole, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("timm/test_efficientnet", ["conv_stem", "blocks.4", "conv_head"]),
        ("timm/test_resnet", ["conv1", "layer4"]),
        ("timm/test_convnext", ["stem", "stages.3"]),
    ],
)
def test_blocks_have_timms_names(name: str, some: list[str]) -> None:
    assert [block for block in blocks(made(name, 64)) if block in some] == some


def test_presets_are_timms() -> None:
    preset = families.of("timm/resnet50.a1_in1k").preset("timm/resnet50.a1_in1k")
    assert (preset.image_size, preset.resize, preset.interpolation) == (224, 235, "bicubic")  # 224 / .95
    assert preset.url == "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors"
    assert preset.file == "resnet50.a1_in1k.safetensors"
    transform = backbones.transform_for("timm/vit_base_patch16_siglip_224", "native", pretrained=True)
    assert (transform.image_size, transform.mean) == (224, (0.5, 0.5, 0.5))


def test_operations_are_counted_as_torchvision_counts_them() -> None:
    theirs = models.ResNet18_Weights.DEFAULT.meta["_ops"]
    assert families.of("timm/resnet18").gflops("timm/resnet18") == pytest.approx(theirs, rel=0.01)
    assert backbones.is_light("timm/test_vit")


@pytest.mark.parametrize(
    ("name", "size", "pretrained", "side"),
    [
        ("timm/test_efficientnet", "quick", False, 96),
        ("timm/resnet18", "quick", False, 48),
        ("timm/resnet18", "enlarged", True, 288),
        ("timm/test_vit", "enlarged", True, 160),  # position embeddings
        ("timm/test_vit", "enlarged", False, 192),
    ],
)
def test_sizes_that_are_named(name: str, size: backbones.Size, pretrained: bool, side: int) -> None:
    assert backbones.transform_for(name, size, pretrained=pretrained).image_size == side


@pytest.mark.parametrize(
    ("name", "size", "pretrained", "told"),
    [
        ("timm/test_vit", 100, False, r"it takes 32 or 48 or .*\(native: 160\)"),
        ("timm/test_vit", 224, True, r"it takes 160 \(native: 160\)"),
    ],
)
def test_a_size_that_a_network_does_not_take(name: str, size: int, pretrained: bool, told: str) -> None:
    with pytest.raises(UserError, match=f"features.image_size: {name} does not take {size} pixels; {told}"):
        backbones.transform_for(name, size, pretrained=pretrained)


def test_a_network_that_is_told_its_side_trains_on_no_other() -> None:
    with pytest.raises(UserError, match="timm/test_vit takes one size, and 96 pixels are stored"):
        backbones.check_training_size("timm/test_vit", 64, 96)
    backbones.check_training_size("timm/test_resnet", 64, 96)


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_without_a_grid_is_refused_in_one_line(name: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=f"encoder: {name} cannot be an encoder: {REFUSED[name]}"):
        made(name, timm_models.preset(name).image_size)


def test_no_module_of_timm_is_forgotten() -> None:
    """`python -m tests.every_timm` looks at a network of each."""
    assert set(SMALL) == set(timm.list_modules())
    assert {timm.models.is_model_in_modules(name, [module]) for module, name in SMALL.items()} == {True}


def test_the_seed_alone_decides_the_weights() -> None:
    """Also in a process that has not asked yet whether the network is told its side."""
    states = []
    for seed in (4, 4, 5):
        states.append(made("timm/test_vit", 160, seed=seed).state_dict())
        timm_models._told.cache_clear()
    first, again, other = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["body.blocks.0.attn.qkv.weight"], other["body.blocks.0.attn.qkv.weight"])


def test_an_unknown_name_brings_timms_closest() -> None:
    with pytest.raises(UserError, match=r"'timm/resnet-50' is no .* timm/resnet50"):
        families.of("timm/resnet-50")


def test_other_names_do_not_load_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does an import: `tests/test_cold_start.py`."""

    def loaded() -> None:
        raise AssertionError("timm is loaded")

    monkeypatch.setattr(imports, "timm", loaded)
    monkeypatch.setattr(timm_models, "names", loaded)
    assert backbones.transform_for("resnet18", "native", pretrained=True).image_size == 224
    with pytest.raises(UserError, match="resnet18"):
        families.of("resnet-18")
    with pytest.raises(AssertionError, match="timm is loaded"):
        families.of("timm/resnet18")


def brought(folder: Path, name: str, choice: str, source: Path | None = None) -> dict[str, Any]:
    target = folder / "weights.safetensors"
    return pretrained.bring(name, choice, target, source=source, cache=folder / "cache", root=folder)


def test_weights_are_those_of_timm_by_name(tmp_path: Path) -> None:
    """A file of a head with another number of classes, given by path; it lies in `download.source` for `imagenet`."""
    state = network("timm/test_efficientnet", num_classes=7).state_dict()
    save_file(state, tmp_path / "test_efficientnet.safetensors")
    assert brought(tmp_path, "timm/test_efficientnet", "test_efficientnet.safetensors")["kind"] == "file"
    found = read_weights(tmp_path / "weights.safetensors")
    assert found.keys() == {key for key in state if not key.startswith("classifier")}
    record = brought(tmp_path, "timm/test_efficientnet", "imagenet", source=tmp_path)
    assert (record["kind"], record["origin"]) == ("imagenet", "source")
    with pytest.raises(UserError, match="the weights are not those of timm/test_resnet"):
        brought(tmp_path, "timm/test_resnet", "test_efficientnet.safetensors")


def test_imagenet_is_the_file_that_timm_publishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def fetch(url: str, target: Path, **options: Any) -> Fetched:
        asked.update(url=url, target=target, **options)
        raise UserError(f"{url}: cannot be downloaded")

    monkeypatch.setattr(downloads, "fetch", fetch)
    with pytest.raises(UserError, match=r"features\.weights = PATH"):
        brought(tmp_path, "timm/test_vit", "imagenet")
    assert asked["url"].endswith("/resolve/main/model.safetensors")
    assert (asked["target"].name, asked["name"], asked["digest"]) == (*["test_vit.safetensors"] * 2, None)


def test_weights_in_another_layout_are_to_be_given_as_a_file(tmp_path: Path) -> None:
    name = "timm/flexivit_small"
    assert timm_models.preset(name).url is None
    with pytest.raises(UserError, match=r"none are published for .* put a state dict, flexivit_small\.safetensors"):
        brought(tmp_path, name, "imagenet")
