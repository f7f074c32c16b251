"""Every decoder in a tiny size: what the tests of the seam run over."""

from typing import Any

import torch
from torch import Tensor

from benchmarks.vocabulary import numbered
from captioning import decoders
from captioning.decoders.base import Decoder
from captioning.vision.encoders.encoded import Encoded
from tests.special import BOS

WORDS, FEATURES, REGIONS = 30, 12, 5
_RECURRENT = {"embedding_size": 16, "hidden_size": 20}
_ATTENTION = {
    **_RECURRENT,
    "attention_size": 8,
    "doubly_stochastic": 1.0,
    "reinforce": 1.0,
    "entropy": 0.002,
    "sampling": 0.5,
}
_OSCAR = {"width": 16, "layers": 2, "heads": 2, "feed_forward": 32, "positions": 50}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "lstm": ("lstm", {**_RECURRENT, "layers": 2, "picture": "yunjey"}),
    "lstm-nic": ("lstm", {**_RECURRENT, "layers": 1, "picture": "nic"}),
    "neuraltalk-rnn": ("neuraltalk", {**_RECURRENT, "cell": "rnn"}),
    "neuraltalk-lstm": ("neuraltalk", {**_RECURRENT, "cell": "lstm"}),
    "attention-soft": ("attention", {**_ATTENTION, "kind": "soft"}),
    "attention-hard": ("attention", {**_ATTENTION, "kind": "hard"}),
    "updown": ("updown", {**_RECURRENT, "attention_size": 8}),
    "transformer": ("transformer", {"width": 16, "layers": 2, "heads": 2, "feed_forward": 32}),
    "oscar": ("oscar", {**_OSCAR, "image_norm": False}),
    "oscar-plus": ("oscar", {**_OSCAR, "image_norm": True}),
}
ATTENDING = [name for name in VARIANTS if name.startswith(("attention", "updown", "transformer", "oscar"))]


def options(variant: str, **changes: Any) -> dict[str, Any]:
    """The options of a variant; without dropout unless `changes` say so."""
    return {**VARIANTS[variant][1], "dropout": 0.0, **changes}


def build(variant: str, **changes: Any) -> Decoder:
    """A decoder of WORDS words on features of FEATURES numbers, always from the same seed."""
    torch.manual_seed(1)
    return decoders.build(VARIANTS[variant][0], numbered(WORDS), FEATURES, options(variant, **changes))


def images(count: int, seed: int = 0) -> Encoded:
    """`count` images of REGIONS regions."""
    regions = torch.randn(count, REGIONS, FEATURES, generator=torch.Generator().manual_seed(seed))
    return Encoded(regions.mean(1), regions)


def captions(count: int, length: int, seed: int = 0) -> Tensor:
    """Tokens (count, length): `<bos>` and words."""
    tokens = torch.randint(4, WORDS, (count, length), generator=torch.Generator().manual_seed(seed))
    tokens[:, 0] = BOS
    return tokens


def lstm_by_torch(inputs: Tensor, h: Tensor, c: Tensor, parts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """torch's own cell: its gates are input, forget, candidate, output; ours have the candidate last."""
    order = [part for index in (0, 1, 3, 2) for part in range(index * h.shape[1], (index + 1) * h.shape[1])]
    weights = [parts[name][order] for name in ("inputs", "hidden", "bias")]
    found: tuple[Tensor, Tensor] = torch.lstm_cell(inputs, (h, c), *weights, torch.zeros_like(weights[2]))
    return found
