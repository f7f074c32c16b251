"""Encoders of timm, one of each of its modules: `python -m tests.every_timm` runs all of them.

It takes minutes, so `make test` runs a few (`tests/test_timm.py`).
"""

import sys
import time
from typing import NamedTuple

import torch
from torch import Tensor

from captioning.system.errors import UserError
from captioning.vision.encoders import backbones, encoders, timm_models
from captioning.vision.encoders.encoders import Encoder

SIDES = (64, 96, 128, 160, 192, 224, 256, 288, 384, 512)
"""The first one that a network takes from scratch is tried."""

REFUSED = {
    "timm/coat_tiny": "its features are no map and no sequence of tokens",  # of three resolutions; coat_lite has one
    "timm/crossvit_tiny_240": "its features are no map and no sequence of tokens",  # of two resolutions
    "timm/efficientvim_m1": "its features are no map and no sequence of tokens",  # hidden states of all stages
    "timm/pit_ti_224": "its features are class tokens alone",
}
"""Networks of the modules that cannot be encoders, and why."""

_MIXING = frozenset({"timm/levit_384_s8", "timm/vit_tiny_r_s16_p8_224"})  # attend to all places alike, until trained

SMALL = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "test_byobnet",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "convnext_zepto_rms",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_betwixt_patch16_rope_reg4_gap_256",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_384_s8",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_maxvit",
    "metaformer": "caformer_s18",
    "mlp_mixer": "gmlp_s16_224",
    "mobilenetv3": "tf_mobilenetv3_large_minimal_100",
    "mobilenetv5": "mobilenetv5_300m",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_siglip",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_base",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnety_040_sgn",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m0_9",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnext50_32x4d",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_s3_tiny_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_patch16_224",
    "tresnet": "tresnet_l",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41",
    "xcit": "xcit_nano_12_p8_224",
}
"""A small network of each module of timm."""


class Found(NamedTuple):
    """What an encoder is at a small size."""

    side: int
    regions: int
    width: int


def smallest_side(name: str) -> int:
    """The first of `SIDES` at which there is more than one region."""
    sizes = timm_models.sizes(name, pretrained=False)
    return next((side for side in SIDES if sizes.take(side)), timm_models.preset(name).image_size)


def look(name: str, side: int) -> Found:
    """Build and run it; raise AssertionError where it is not what an encoder promises."""
    encoder = encoders.build(name, transform=backbones.transform_for(name, side, pretrained=False), weights={})
    with torch.device("meta"):
        whole = timm_models._network(name, side)
        features = whole.forward_features(torch.zeros(1, 3, side, side))
    assert encoder.dim == whole.num_features, f"{encoder.dim} features of {whole.num_features}"
    assert encoder.body.state_dict().keys() <= whole.state_dict().keys()
    assert timm_models.without_head(encoder.body.state_dict()).keys() == encoder.body.state_dict().keys()
    assert encoder.grid is not None, f"{encoder.regions} regions are no square"
    if name not in _MIXING and (features.ndim == 3 or features.shape[1] != encoder.dim):
        _check_order(encoder)
    return Found(side, encoder.regions, encoder.dim)


def _check_order(encoder: Encoder) -> None:
    """Tokens lie row by row: each of two corners of the image changes its own token most."""
    assert encoder.grid is not None
    rows, columns = encoder.grid
    for row, column in {(0, columns - 1), (rows - 1, 0)}:
        place = _most_changed(encoder, row, column)
        assert place == row * columns + column, f"a change at {row}, {column} of {encoder.grid} is seen at {place}"


def _most_changed(encoder: Encoder, row: int, column: int) -> int:
    """The region that sees a change of the pixels of one cell of the grid."""
    assert encoder.grid is not None
    side, (rows, columns) = encoder.transform.image_size, encoder.grid
    high, wide = side // rows, side // columns
    pixels: Tensor = torch.full((2, 3, side, side), 128, dtype=torch.uint8)
    noise = torch.randint(0, 256, (3, high, wide), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[1, :, row * high : (row + 1) * high, column * wide : (column + 1) * wide] = noise
    with torch.inference_mode():
        before, after = encoder(pixels)
    return int((after - before).norm(dim=1).argmax())


def main() -> int:
    """Print a line for each module; the number of those that are not as they should be."""
    wrong = 0
    for module, plain in SMALL.items():
        name, begin = f"{timm_models.PREFIX}{plain}", time.perf_counter()
        try:
            told, fine = str(look(name, smallest_side(name))), name not in REFUSED
        except (AssertionError, UserError) as fault:
            told = str(fault)
            fine = name in REFUSED and REFUSED[name] in told
        wrong += not fine
        print(
            f"{module:24} {name:40} {time.perf_counter() - begin:5.1f} s  {'' if fine else 'WRONG '}{told}", flush=True
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main())
