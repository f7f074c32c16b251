"""Kernels: with all of them off, the same captions, losses and gradients within tolerance; and that off is off."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.vocabulary import numbered
from captioning import kernels
from captioning.decoders.base import Decoder
from captioning.decoders.lstm import LstmDecoder, LstmOptions
from captioning.kernels import attention, captions, convolutions
from captioning.kernels.dropout import Dropout
from captioning.kernels.logits import WordLogits
from captioning.search import SearchOptions, search
from captioning.training.encoder.division import divide
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.heads import EncoderHeads
from captioning.training.network import Network
from captioning.vision.encoders import backbones, encoders
from tests import variants
from tests.imports import ROOT
from tests.test_keys import folder, key_of_train
from tests.variants import VARIANTS, build, images

__all__ = ["folder"]  # pytest finds it here by name
Result = TypeVar("Result")
OWNERS = {"side by side": torch.tensor([0, 0, 1, 1, 2, 2]), "apart": torch.tensor([0, 0, 0, 1, 2, 2])}


@contextmanager
def plainly() -> Iterator[None]:
    kernels.use(plain=True)
    try:
        yield
    finally:
        kernels.use(plain=False)


@pytest.fixture
def plain() -> Iterator[None]:
    with plainly():
        yield


def both(result: Callable[[], Result]) -> tuple[Result, Result]:
    """With the kernels and without."""
    fast = result()
    with plainly():
        return fast, result()


def gradients(network: nn.Module, losses: dict[str, Tensor]) -> list[Tensor]:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    total = torch.stack(list(losses.values())).sum()
    return list(torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True))


def losses_of(network: Network, inputs: tuple[Tensor, ...], owner: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(3)
    tokens = variants.captions(len(owner), 7)
    return {name: loss.value for name, loss in network(inputs, tokens, owner).items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_decoder_has_the_same_parameters_and_says_the_same(variant: str) -> None:
    def captioned() -> tuple[Decoder, list[tuple[int, ...]], list[float]]:
        decoder = build(variant).eval()
        found = search(decoder, images(5, seed=9), SearchOptions(beam_size=3, max_words=8, min_words=2))
        return decoder, [one.ids for one in found], [one.score for one in found]

    (fast, ids, scores), (simple, same, near) = both(captioned)
    assert same == ids
    assert near == pytest.approx(scores, abs=1e-5)
    assert fast.state_dict().keys() == simple.state_dict().keys()
    assert all(torch.equal(one, simple.state_dict()[name]) for name, one in fast.state_dict().items())


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_decoder_has_the_same_losses_and_gradients(variant: str, owner: str) -> None:
    def trained() -> tuple[dict[str, Tensor], list[Tensor]]:
        network, encoded = Network(None, build(variant)).train(), images(3)
        assert encoded.regions is not None
        losses = losses_of(network, (encoded.mean, encoded.regions), OWNERS[owner])
        return losses, gradients(network, losses)

    (fast, ours), (simple, theirs) = both(trained)
    assert fast.keys() == simple.keys()
    for name, loss in fast.items():
        torch.testing.assert_close(simple[name], loss, atol=1e-5, rtol=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("block", ["all", "layer4"])
def test_a_trained_encoder_has_the_same_losses_and_gradients(block: str) -> None:
    """Convolutions over small maps, and blocks ahead of those that are trained."""

    def trained() -> tuple[dict[str, Tensor], list[Tensor]]:
        transform = backbones.transform_for("resnet18", 64, pretrained=False)
        encoder = encoders.build("resnet18", transform=transform, weights={}, seed=1)
        training = EncoderTraining(encoder, from_block=block, batchnorm="eval")
        torch.manual_seed(0)
        decoder = LstmDecoder(numbered(variants.WORDS), encoder.dim, LstmOptions(8, 8, 1, 0.0, "nic"))
        network = Network(training, decoder, EncoderHeads(training, numbered(variants.WORDS), word_presence=1.0))
        network.begin_captions(1)
        pixels = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
        losses = losses_of(network, (pixels,), OWNERS["apart"])
        return losses, gradients(network, losses)

    (fast, ours), (simple, theirs) = both(trained)
    for name, loss in fast.items():
        torch.testing.assert_close(simple[name], loss, atol=1e-4, rtol=1e-4)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.linalg.vector_norm(other - one) <= 1e-2 * torch.linalg.vector_norm(one) + 1e-9


@pytest.mark.usefixtures("plain")
def test_plain_dropout_is_torchs() -> None:
    x = torch.randn(50, 7)
    torch.manual_seed(3)
    dropped = Dropout(0.4)(x)
    torch.manual_seed(3)
    assert torch.equal(dropped, functional.dropout(x, 0.4))
    assert Dropout(0.4).eval()(x) is x


def test_plain_logits_multiply_as_many_rows_as_there_are_words(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, rows, real = WordLogits(4, 70), [], functional.linear

    def linear(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows.append(len(weight))
        return real(hidden, weight, bias)

    monkeypatch.setattr(functional, "linear", linear)
    assert [logits.shape for logits in both(lambda: layer(torch.ones(3, 4)))] == [(3, 70)] * 2
    assert rows == [128, 70]


@pytest.mark.parametrize("causal", [True, False])
def test_plain_attention_is_torchs(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    query, keys, values = torch.randn(3, 2, 2, 5, 4)
    bias = None if causal else torch.tensor([0.0, -torch.inf]).repeat(5)[:5].expand(2, 1, 1, 5)
    real, asked = functional.scaled_dot_product_attention, []

    def ask(*arguments: Any, **options: Any) -> Tensor:
        asked.append(options)
        return real(*arguments, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", ask)
    fast, simple = both(
        lambda: attention.attention(query, attention.dot_product_keys(keys), values, bias, causal=causal)
    )
    assert asked == [{"is_causal": causal}]
    torch.testing.assert_close(simple, fast)
    weights = both(lambda: attention.attention_weights(query, attention.dot_product_keys(keys), bias, causal=causal))
    torch.testing.assert_close(weights[0] @ values, simple)
    torch.testing.assert_close(*weights)
    with plainly():
        assert attention.dot_product_keys(keys) is keys


def test_plain_additive_attention_is_its_equation() -> None:
    query, keys, score = torch.randn(6, 4), torch.randn(3, 5, 4), torch.randn(1, 4)
    fast, simple = both(
        lambda: attention.additive_attention(query, attention.additive_keys(keys), score, torch.zeros(len(keys), 0))
    )
    expected = ((keys.repeat_interleave(2, 0) + query[:, None]).tanh() @ score[0]).softmax(1)
    assert torch.equal(simple, expected) or torch.allclose(simple, expected, atol=1e-6)
    torch.testing.assert_close(fast, expected)
    with plainly():
        assert attention.additive_keys(keys) is keys


@pytest.mark.usefixtures("plain")
def test_plainly_nothing_is_asked_replaced_or_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    assert captions.each(OWNERS["side by side"], 3) is None
    network = nn.Sequential(nn.Conv2d(4, 4, 3))
    assert type(convolutions.quicken(network)[0]) is nn.Conv2d  # type: ignore[index]
    monkeypatch.setattr(convolutions._SmallMap, "apply", None)  # is not called
    convolutions.Conv2d(2, 2, 3)(torch.randn(1, 2, 4, 4)).sum().backward()
    transform = backbones.transform_for("squeezenet1_1", 64, pretrained=False)
    encoder = encoders.build("squeezenet1_1", transform=transform, weights={})
    assert divide(encoder, EncoderTraining(encoder, from_block="none").frozen) is None


def test_captions_are_counted_where_they_lie_side_by_side() -> None:
    assert captions.each(OWNERS["side by side"], 3) == 2
    assert captions.each(OWNERS["apart"], 3) is None
    assert captions.each(torch.arange(4), 3) is None


@pytest.mark.parametrize(("value", "said"), [("1", "True"), ("0", "False"), ("", "False")])
def test_the_environment_chooses_without_loading_torch(value: str, said: str, tmp_path: Path) -> None:
    code = "import sys; from captioning import kernels; print(kernels.plain(), 'torch' in sys.modules)"
    environment = {**os.environ, "CAPTIONING_PLAIN_KERNELS": value, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [said, "False"]


@pytest.mark.usefixtures("folder")
def test_a_half_done_training_is_not_taken_up_with_other_kernels() -> None:
    assert kernels.describe() == {}
    fast, simple = both(key_of_train)
    assert fast != simple
