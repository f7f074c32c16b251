"""A trained model as ONNX graphs, made by torch's exporter. This module alone loads torch.

    encoder     pixels, uint8 (B, 3, S, S) → mean (B, D), regions (B, R, D): all that the decoder reads
    init        mean, regions → the state before the first word: state_0 … (B, …), shared_0 … (B, …)
    step        tokens (B, K), state_0 … (B, K, …), shared_0 … → logits (B * K, V), next_0 … (B * K, …)
    statistics  pixels → statistics (B, C), where the model keeps those of its training images

B images, K hypotheses of each, C statistics, D feature width, R regions, S side in pixels, V words. B and K may be any,
and so may the words so far, which a transformer's state grows by. What is `shared` is of an image (`Decoder.shared`).
"""

from typing import Any

import torch
from torch import Tensor, nn

from captioning.captioner.model import Captioner
from captioning.data.runtimes.tracing import ANY, Traced, traced
from captioning.decoders.base import Decoder, State
from captioning.vision.encoders.encoded import Encoded, of_regions
from captioning.vision.features.unlikeness import statistics

_IMAGES, _EACH, _WORDS = 2, 3, 4  # sizes of the example: torch takes a size of 0 or 1 for a fixed one


class _Encode(nn.Module):
    def __init__(self, captioner: Captioner) -> None:
        super().__init__()
        self.encoder, self._completed = captioner.encoder, captioner.completed

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        encoded = self._completed(of_regions(self.encoder(pixels)))
        assert encoded.regions is not None
        return encoded.mean, encoded.regions


class _Init(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, mean: Tensor, regions: Tensor) -> State:
        return self.decoder.init(Encoded(mean, regions))


class _Step(nn.Module):
    """Hypotheses by image: that N is a multiple of B is then known."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, own: State, shared: State) -> tuple[Tensor, ...]:
        state = (*(part.flatten(0, 1) for part in own), *shared)
        logits, after = self.decoder.step(tokens.flatten(), state)
        return logits, *after[: len(own)]


class _Statistics(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return statistics(pixels)


def trace(captioner: Captioner) -> dict[str, Traced]:
    """The graphs of a model, by name."""
    side = captioner.transform.image_size
    pixels = torch.zeros(_IMAGES, 3, side, side, dtype=torch.uint8)
    encoder = traced(_Encode(captioner), (pixels,), ({0: ANY},), ["pixels"], ["mean", "regions"])
    graphs = {"encoder": encoder, **trace_decoder(captioner.decoder, captioner.encode(pixels.numpy()))}
    if captioner.statistics is not None:
        graphs["statistics"] = traced(_Statistics(), (pixels,), ({0: ANY},), ["pixels"], ["statistics"])
    return graphs


def trace_decoder(decoder: Decoder, encoded: Encoded) -> dict[str, Traced]:
    """`init` and `step` of a decoder that reads what `encoded` is an example of: two images, with regions."""
    assert encoded.regions is not None
    mean, regions = encoded.mean.clone(), encoded.regions.clone()
    with torch.no_grad():
        state = decoder.init(Encoded(mean, regions))
    names, size = _names(state, decoder.shared), len(state) - decoder.shared
    example, sizes = _example(state[:size], state[size:])
    after = ["logits", *(f"next_{index}" for index in range(size))]
    return {
        "init": traced(_Init(decoder), (mean, regions), ({0: ANY},) * 2, ["mean", "regions"], names),
        "step": traced(_Step(decoder), example, sizes, ["tokens", *names], after),
    }


def _names(state: State, shared: int) -> list[str]:
    own = len(state) - shared
    return [f"state_{index}" for index in range(own)] + [f"shared_{index}" for index in range(shared)]


def _example(own: State, shared: State) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Inputs of `step`, and which of their sizes may be any: also that of words, which is 0 before the first one."""
    shapes = [(part.shape[0], _EACH, *part.shape[1:]) for part in own]
    states = tuple(torch.zeros([size or _WORDS for size in shape]) for shape in shapes)
    sizes = tuple({0: ANY, 1: ANY} | {axis: ANY for axis, size in enumerate(shape) if size == 0} for shape in shapes)
    tokens = torch.zeros(_IMAGES, _EACH, dtype=torch.long)
    return (tokens, states, tuple(shared)), ({0: ANY, 1: ANY}, sizes, ({0: ANY},) * len(shared))
