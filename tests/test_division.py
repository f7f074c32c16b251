"""An encoder in two parts: together they are what it was, and only the second is trained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import ops

from captioning.kernels import convolutions
from captioning.training.encoder.blocks import blocks as names_of_blocks
from captioning.training.encoder.division import Divided, divide
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.inputs import PixelInputs
from captioning.vision.encoders.encoders import Encoder
from tests.test_encoders import FAMILIES, images, made
from tests.test_fine_tuning import NAME, OWNER, SIZE, TOKENS, network, self_critical_steps


def tuned(name: str, size: int, block: str) -> EncoderTraining:
    """In training mode, where BatchNorm of what is trained keeps its statistics."""
    training = EncoderTraining(made(name, size), from_block=block, batchnorm="eval")
    training.begin_captions(1)
    training.set_modes(training=True)
    return training


def cut(training: EncoderTraining) -> Divided:
    divided = divide(training.encoder, training.frozen)
    assert divided is not None
    return divided


def without_chance(encoder: Encoder) -> None:
    """No dropout and no stochastic depth: two passes can be compared."""
    for module in encoder.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd | ops.StochasticDepth):
            module.p = 0.0


@pytest.mark.parametrize("place", [1, -1, None])
@pytest.mark.parametrize("name", FAMILIES)
def test_both_parts_are_the_encoder(name: str, place: int | None) -> None:
    """Regions and gradients are those of the whole; the back changes nothing of what it reads."""
    size, blocks = FAMILIES[name][0], names_of_blocks(made(name, FAMILIES[name][0]))
    training = tuned(name, size, "none" if place is None else blocks[place])
    encoder = training.encoder
    without_chance(encoder)
    divided, pixels = cut(training), images(5, size)
    ahead = divided.ahead(pixels)
    assert not any(found.requires_grad for found in ahead if isinstance(found, Tensor))
    whole, parts = encoder(pixels), divided.regions(ahead)
    scale = whole.abs().max().item()
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4 * scale)
    torch.testing.assert_close(divided.regions(ahead), parts, rtol=0, atol=0)
    if place is not None:
        trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
        expected = torch.autograd.grad(whole.square().mean(), trained, allow_unused=True)
        found = torch.autograd.grad(parts.square().mean(), trained, allow_unused=True)
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert torch.linalg.vector_norm(one - other) <= 1e-2 * torch.linalg.vector_norm(other) + 1e-12


def test_a_cpu_takes_few_images_at_a_time_where_each_has_a_row() -> None:
    divided, counts = cut(tuned(NAME, SIZE, "stage4")), []
    divided.front.register_forward_pre_hook(lambda _, given: counts.append(len(given[0])))
    together = divided.ahead(images(9, SIZE))
    assert (divided.separable, counts) == (True, [4, 4, 1])
    assert [len(found) for found in together] == [9] * len(together)
    sizes = cut(tuned("vit_b_32", FAMILIES["vit_b_32"][0], names_of_blocks(made("vit_b_32", 32))[1]))
    assert sizes.separable is False  # how many images there are is asked for, and goes from front to back


def test_what_is_trained_everywhere_is_not_divided() -> None:
    assert divide(made(NAME, SIZE), ()) is None
    training = tuned(NAME, SIZE, "all")
    assert (training.divided, training.frozen) == (None, ())


def test_the_front_has_no_batchnorm_and_the_back_has_the_encoders_own_modules() -> None:
    training = tuned(NAME, SIZE, "stage4")
    encoder, divided = training.encoder, cut(training)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in divided.front.modules())
    mine = {id(parameter) for parameter in encoder.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in divided.back.parameters()} == mine
    names = [name for name, _ in encoder.named_parameters()]
    assert len(names) == len(set(names)) == len(list(made(NAME, SIZE).parameters()))


def test_chance_is_not_ahead_of_what_is_trained() -> None:
    """Swin's blocks have stochastic depth: in those that are trained it is drawn in every pass."""
    name = next(name for name in FAMILIES if name.startswith("swin_"))
    training = tuned(name, FAMILIES[name][0], names_of_blocks(made(name, FAMILIES[name][0]))[2])
    for module in training.encoder.modules():
        if isinstance(module, ops.StochasticDepth):
            module.p = 0.5
    divided = cut(training)
    assert not any(isinstance(module, ops.StochasticDepth) and module.training for module in divided.front.modules())
    ahead = divided.ahead(images(2, FAMILIES[name][0]))
    assert any(not torch.equal(divided.regions(ahead), divided.regions(ahead)) for _ in range(8))


def test_convolutions_that_learnt_are_folded_once_nothing_is_trained() -> None:
    """Those of ResNet were replaced by ones with a faster gradient, which look at the sides of the maps."""
    training, pixels = tuned("resnet18", 32, "all"), images(2, 32)
    assert any(isinstance(module, convolutions.Conv2d) for module in training.encoder.modules())
    expected = training.encoder(pixels)
    training.enter(learns=False)
    training.begin_rewards()
    divided = training.divided
    assert divided is not None
    assert not any(isinstance(module, nn.BatchNorm2d) for module in divided.front.modules())
    scale = expected.abs().max().item()
    torch.testing.assert_close(divided.regions(divided.ahead(pixels)), expected, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("block", ["stage4", "none"])
def test_a_network_divides_when_training_begins(block: str) -> None:
    """What it says is the same, and so are the names of its weights; the frozen part runs once for both passes."""
    whole = network(block)
    names, inputs = list(whole.state_dict()), (images(2, SIZE),)
    before = whole.encode(whole.through_frozen_blocks(inputs)).regions
    assert whole.through_frozen_blocks(inputs)[0] is inputs[0]
    whole.begin_captions(1)
    assert list(whole.state_dict()) == names
    after = whole.encode(whole.through_frozen_blocks(inputs)).regions
    assert before is not None
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4 * before.abs().max().item())
    calls: list[Tensor] = []
    assert whole.encoder_training is not None
    assert whole.encoder_training.divided is not None
    whole.encoder_training.divided.front.register_forward_hook(lambda *given: calls.append(given[1][0]))
    self_critical_steps(whole, 3)
    assert len(calls) == 3
    losses = whole(inputs, TOKENS, OWNER)
    assert len(calls) == 4
    assert losses["caption"].value.isfinite()


def test_what_is_drawn_is_pixels_still() -> None:
    store = SimpleNamespace(pixels=images(2, SIZE).numpy(), places=None)
    [drawn] = PixelInputs(store).draw(np.array([1, 0]), torch.device("cpu"))  # type: ignore[arg-type]
    assert torch.equal(drawn, images(2, SIZE)[[1, 0]])
