"""The sides of images from scratch on a CPU, and BatchNorm that follows a short training."""

import pytest
import torch
from torch import nn
from torchvision import models

from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.vision.encoders import backbones
from captioning.vision.encoders.encoders import Encoder
from tests.test_encoders import made


@pytest.mark.parametrize(
    ("name", "pretrained", "side"),
    [
        ("mobilenet_v3_small", False, 96),  # light
        ("shufflenet_v2_x1_0", False, 96),
        ("resnet18", False, 48),  # heavy
        ("densenet121", False, 48),
        ("swin_t", False, 48),
        ("inception_v3", False, 96),  # takes 75 and more
        ("vit_b_32", False, 64),  # takes whole patches
        ("vit_b_32", True, 224),  # takes one side
        ("maxvit_t", False, 224),
    ],
)
def test_quick_is_the_least_side_for_its_weight_that_the_backbone_takes(name: str, pretrained: bool, side: int) -> None:
    transform = backbones.transform_for(name, "quick", pretrained=pretrained, crop="none")
    assert transform.image_size == side
    backbones.check_size(name, side, pretrained=pretrained)


def momenta(network: nn.Module) -> set[float | None]:
    return {part.momentum for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)}


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mnasnet0_5", "resnet18"])
def test_from_scratch_stored_statistics_follow_as_in_torch(name: str) -> None:
    own = momenta(models.get_model(name, weights=None))
    drawn = made(name, 64)
    assert momenta(drawn) == {0.1}
    given = made(name, 64, weights=dict(drawn.body.state_dict()))
    assert momenta(given) == own


def statistics(encoder: Encoder) -> torch.Tensor:
    return torch.cat([tensor for name, tensor in encoder.state_dict().items() if name.endswith("running_mean")])


def test_a_few_steps_move_the_statistics_from_scratch_and_not_those_that_are_held() -> None:
    pixels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for mode, moves in (("batch", True), ("eval", False)):
        training = EncoderTraining(made("mobilenet_v3_small", 64), batchnorm=mode)  # type: ignore[arg-type]
        training.begin_captions(1)
        training.set_modes(training=True)
        encoder = training.encoder
        before = statistics(encoder).clone()
        with torch.no_grad():
            encoder(pixels)
        assert (not torch.equal(before, statistics(encoder))) is moves
