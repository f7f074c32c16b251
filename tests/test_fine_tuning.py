"""Which blocks of an encoder are trained, from when on, and what stays as it was to the bit."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from benchmarks.vocabulary import numbered
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import SPECIAL, Vocabulary
from captioning.decoders.lstm import LstmDecoder, LstmOptions
from captioning.system.errors import UserError
from captioning.training.encoder import blocks as blocks_of
from captioning.training.encoder.augmentation import Augmentation
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.heads import EncoderHeads
from captioning.training.inputs import PixelInputs
from captioning.training.network import Network
from captioning.training.optimization import adamw
from captioning.training.phase import Data, Setup
from captioning.training.rewards import CiderReward
from captioning.training.self_critical import SelfCritical, SelfCriticalOptions
from captioning.vision.encoders.encoders import Encoder
from tests.test_encoders import FAMILIES, images, made

NAME, SIZE = "shufflenet_v2_x0_5", 64  # conv1, stage2, stage3, stage4, conv5
TOKENS = torch.tensor([[1, 5, 6, 2], [1, 6, 2, 0], [1, 7, 8, 2]])
OWNER = torch.tensor([0, 0, 1])


def network(block: str, start_epoch: int = 1, mode: Any = "eval") -> Network:
    training = EncoderTraining(made(NAME, SIZE), from_block=block, start_epoch=start_epoch, batchnorm=mode)
    torch.manual_seed(0)
    decoder = LstmDecoder(numbered(12), training.encoder.dim, LstmOptions(8, 8, 1, 0.0, "nic"))
    return Network(training, decoder, EncoderHeads(training, numbered(12), word_presence=1.0))


def encoder_of(whole: Network) -> Encoder:
    assert whole.encoder is not None
    return whole.encoder


def state(encoder: Encoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.body.state_dict().items()}


def steps(made: Network, epoch: int, optimizer: torch.optim.Optimizer, count: int = 2) -> None:
    made.begin_captions(epoch)
    for _ in range(count):
        losses = made((images(2, SIZE),), TOKENS, OWNER)
        optimizer.zero_grad()
        torch.stack([loss.value for loss in losses.values()]).sum().backward()
        optimizer.step()


def self_critical_steps(made: Network, count: int = 2, trained: tuple[str, ...] = ("encoder", "decoder")) -> None:
    """Steps of the self-critical phase on two images. Rewards differ, so that there is a gradient."""
    vocabulary = Vocabulary((*SPECIAL, *"abcdefgh"))
    captions = EncodedCaptions.encode([[*"abc"], [*"ade"], [*"fgh"]], [0, 0, 1], vocabulary, 3)
    store = SimpleNamespace(pixels=images(2, SIZE).numpy(), places=None)
    data = Data(captions, captions, store, np.arange(2), [0, 1], None, vocabulary)  # type: ignore[arg-type]
    modules = [(made.get_submodule(name), 0.01) for name in trained]
    options = SelfCriticalOptions(3, 1, 2, 5, "leave_one_out", 0.1, 0)
    fabric = Fabric(accelerator="cpu", devices=1)
    setup = Setup(made, PixelInputs(data.store), data, fabric)
    phase = SelfCritical(setup, modules, CiderReward(captions, vocabulary), options)
    phase.enter(made)
    optimizer = phase.optimizer()
    phase.prepare(0)
    for epoch in range(count):
        (loss,) = phase.losses(phase.module, np.arange(2), epoch).minimised.values()
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()


def output(whole: Network) -> Tensor:
    """A copy of the decoder's last matrix."""
    return whole.decoder.get_submodule("output").get_parameter("weight").detach().clone()


def changed(before: dict[str, Tensor], encoder: Encoder) -> set[str]:
    """The blocks of the tensors that are not bit-equal, and `statistics` where these are BatchNorm's."""
    names = [name for name, tensor in encoder.body.state_dict().items() if not torch.equal(tensor, before[name])]
    return {"statistics" if "running" in name or "num_batches" in name else name.split(".")[0] for name in names}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_blocks_and_nothing_is_outside_of_them(name: str) -> None:
    encoder = made(name, FAMILIES[name][0])
    found = blocks_of.blocks(encoder)
    assert 5 <= len(found) <= 20
    for parameter, _ in encoder.body.named_parameters():
        assert sum(f"{parameter}.".startswith(f"{block}.") for block in found) == 1, parameter
    EncoderTraining(encoder, from_block=found[-1])
    trained = [parameter for parameter, tensor in encoder.body.named_parameters() if tensor.requires_grad]
    assert trained == [p for p, _ in encoder.body.named_parameters() if f"{p}.".startswith(f"{found[-1]}.")] != []


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("resnet18", ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]),
        ("mobilenet_v2", [f"features.{index}" for index in range(19)]),
        (
            "vit_b_32",
            ["conv_proj", "class_token", "encoder.pos_embedding"]
            + [f"encoder.layers.encoder_layer_{index}" for index in range(12)]
            + ["encoder.ln"],
        ),
    ],
)
def test_blocks_are_in_the_order_in_which_images_pass(name: str, blocks: list[str]) -> None:
    assert blocks_of.blocks(made(name, FAMILIES[name][0])) == blocks


@pytest.mark.parametrize("mode", ["eval", "batch"])
@pytest.mark.parametrize(
    ("block", "trained"),
    [("all", {"conv1", "stage2", "stage3", "stage4", "conv5"}), ("stage4", {"stage4", "conv5"}), ("conv5", {"conv5"})],
)
def test_exactly_the_named_blocks_are_trained(block: str, trained: set[str], mode: str) -> None:
    """With `batch`, the statistics of trained blocks move; those of the others never do."""
    whole = network(block, mode=mode)
    before = state(encoder_of(whole))
    steps(whole, 1, adamw([(module, 0.01) for module in whole.children()], 0.1))
    found = changed(before, encoder_of(whole))
    assert found == (trained | {"statistics"} if mode == "batch" else trained)
    frozen = {"conv1", "stage2", "stage3", "stage4", "conv5"} - trained
    for name, tensor in encoder_of(whole).body.state_dict().items():
        if name.split(".")[0] in frozen:
            assert torch.equal(tensor, before[name]), name
    assert all(p.grad is None for n, p in encoder_of(whole).body.named_parameters() if n.split(".")[0] in frozen)


@pytest.mark.parametrize("mode", ["eval", "batch"])
@pytest.mark.parametrize(("block", "trained"), [("stage4", {"stage4", "conv5"}), ("conv5", {"conv5"})])
def test_self_critical_training_changes_the_named_blocks_whatever_epoch_they_start_in(
    block: str, trained: set[str], mode: str
) -> None:
    """And no statistics: what is drawn from and differentiated is what is validated."""
    whole = network(block, start_epoch=9, mode=mode)
    before = state(encoder_of(whole))
    self_critical_steps(whole)
    assert changed(before, encoder_of(whole)) == trained
    for name, parameter in encoder_of(whole).body.named_parameters():
        assert (parameter.grad is None) == (name.split(".")[0] not in trained), name
    assert not any(module.training for module in encoder_of(whole).modules())
    every = network("all")
    every.begin_captions(1)
    every.eval()
    assert 0 < 3 * backward_nodes(whole) < backward_nodes(every)


def test_self_critical_training_of_the_decoder_alone_leaves_a_tuned_encoder_as_it_is() -> None:
    """It runs apart as a whole, and says what the tuned encoder says, not what it said before it was tuned."""
    whole = network("stage4")
    steps(whole, 1, adamw([(module, 0.01) for module in whole.children()], 0.1))
    whole.eval()
    encoder, decoder = state(encoder_of(whole)), output(whole)
    expected = encoder_of(whole)(images(2, SIZE))
    self_critical_steps(whole, trained=("decoder",))
    assert changed(encoder, encoder_of(whole)) == set()
    assert not torch.equal(decoder, output(whole))
    assert not any(parameter.requires_grad for parameter in encoder_of(whole).parameters())
    assert whole.encoder_training is not None
    assert whole.encoder_training.divided is not None
    assert not list(whole.encoder_training.divided.back.parameters())
    found = whole.encode(whole.through_frozen_blocks((images(2, SIZE),))).regions
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_before_its_epoch_the_encoder_is_a_fixed_function_and_has_no_gradient() -> None:
    whole = network("stage4", start_epoch=3, mode="batch")
    optimizer = adamw([(module, 0.01) for module in whole.children()], 0.1)
    before, decoder = state(encoder_of(whole)), output(whole)
    for epoch in (1, 2):
        steps(whole, epoch, optimizer)
        assert changed(before, encoder_of(whole)) == set()
        assert all(parameter.grad is None for parameter in encoder_of(whole).parameters())
        assert not any(module.training for module in encoder_of(whole).modules())
    assert not torch.equal(decoder, output(whole))
    steps(whole, 3, optimizer)
    assert changed(before, encoder_of(whole)) == {"stage4", "conv5", "statistics"}


def test_of_none_nothing_is_trained_though_images_change() -> None:
    """The decoder alone learns, from images that are drawn anew; the head of the encoder's own loss does not."""
    whole = network("none", mode="batch")
    encoder, decoder = state(encoder_of(whole)), output(whole)
    optimizer = adamw([(module, 0.01) for module in whole.children()], 0.1)
    steps(whole, 1, optimizer)
    self_critical_steps(whole)
    assert changed(encoder, encoder_of(whole)) == set()
    assert not torch.equal(decoder, output(whole))
    losses = whole((images(2, SIZE),), TOKENS, OWNER)
    assert losses["presence"].value.item() == 0 < losses["caption"].value.item()
    store = SimpleNamespace(pixels=images(2, SIZE).numpy(), places=None)
    inputs = PixelInputs(store, Augmentation(crop=0.5))  # type: ignore[arg-type]
    [first], [second] = (inputs.draw(np.array([0, 1]), torch.device("cpu")) for _ in range(2))
    means = [whole.encode(whole.through_frozen_blocks((pixels,))).mean for pixels in (first, second)]
    assert not torch.equal(*means)


def backward_nodes(whole: Network) -> int:
    """How many operations a backward pass from the regions would enter."""
    todo, seen = [whole.encode(whole.through_frozen_blocks((images(2, SIZE),))).mean.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [after for after, _ in node.next_functions]
    return len(seen)


def test_no_backward_pass_enters_what_is_frozen() -> None:
    counts = []
    for block, start in (("all", 1), ("stage4", 1), ("conv5", 1), ("all", 2), ("none", 1)):
        whole = network(block, start)
        whole.begin_captions(1)
        counts.append(backward_nodes(whole))
    assert counts[0] > 3 * counts[1] > 3 * counts[2] > counts[3] == counts[4] == 0


def test_what_is_fixed_stays_in_eval_mode_and_the_rest_does_not() -> None:
    training = EncoderTraining(made(NAME, SIZE), from_block="stage4")
    training.begin_captions(1)
    training.set_modes(training=True)
    encoder = training.encoder
    modes = {name.split(".")[0]: module.training for name, module in encoder.body.named_modules() if "." in name}
    assert modes == {"conv1": False, "stage2": False, "stage3": False, "stage4": True, "conv5": True}
    training.set_modes(training=False)
    assert not any(module.training for module in encoder.modules())


@pytest.mark.parametrize("mode", ["batch", "eval"])
def test_batchnorm_of_a_trained_encoder(mode: Any) -> None:
    """Its statistics move or stay; all parameters learn either way, and the rest of the network trains."""
    whole = network("all", mode=mode)
    whole.begin_captions(1)
    before = state(encoder_of(whole))
    whole.encode((images(4, SIZE),)).mean.sum().backward()
    assert changed(before, encoder_of(whole)) == ({"statistics"} if mode == "batch" else set())
    assert all(parameter.grad is not None for parameter in encoder_of(whole).parameters())
    assert whole.training
    assert encoder_of(whole).training


def test_what_a_phase_freezes_learns_in_the_next_one() -> None:
    whole = network("stage4")
    trained = [parameter for parameter in whole.parameters() if parameter.requires_grad]
    whole.begin_captions(1)
    whole.enter(encoder_learns=False)
    whole.begin_rewards()
    assert not any(parameter.requires_grad for parameter in encoder_of(whole).parameters())
    assert backward_nodes(whole) == 0
    whole.leave()
    whole.enter()
    whole.begin_captions(1)
    assert all(parameter.requires_grad for parameter in trained)
    assert encoder_of(whole).body.get_submodule("stage4").training
    assert backward_nodes(whole) > 0


def test_an_unknown_block_brings_the_list() -> None:
    encoder = made(NAME, SIZE)
    with pytest.raises(
        UserError, match=r"from_block = 'layer4': shuffle.*; write all, none or one of conv1, stage2, stage3"
    ):
        EncoderTraining(encoder, from_block="layer4")
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert isinstance(encoder.body.get_submodule("conv1"), nn.Module)
