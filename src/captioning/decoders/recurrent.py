"""What the recurrent decoders that attend share: the LSTM cell, and additive attention over regions.

N captions or hypotheses, of B images (N is B, or a multiple of it: those of an image are side by side), A attention
width, D feature width, H hidden, R regions.
"""

import torch
from torch import Tensor, nn

from captioning.kernels.attention import additive_attention, additive_keys


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The pre-activations (N, 4H) of input, forget and output gate and candidate, and c (N, H) → the next h and c."""
    hidden = c.shape[1]
    i, f, o = gates[:, : 3 * hidden].sigmoid().chunk(3, dim=1)
    c = torch.addcmul(f * c, i, gates[:, 3 * hidden :].tanh())
    return o * c.tanh(), c


class AdditiveAttention(nn.Module):
    """α = softmax(wᵀ tanh(W_a a_i + q)) (Bahdanau et al. 2015)."""

    def __init__(self, feature_size: int, attention_size: int) -> None:
        super().__init__()
        self.keys = nn.Linear(feature_size, attention_size)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def prepare(self, regions: Tensor) -> Tensor:
        """regions a (B, R, D) → their keys (B, R, A), computed once an image."""
        return additive_keys(self.keys(regions))

    def forward(self, query: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
        """query q (N, A), keys (B, R, A) from `prepare`, bias from `base.bias_of` → weights α (N, R)."""
        return additive_attention(query, keys, self.score.weight, bias)


def weighted_sum(weights: Tensor, regions: Tensor) -> Tensor:
    """weights (N, R), regions (B, R, D) → Σ_i weights_i regions_i, (N, D)."""
    return torch.bmm(weights.view(len(regions), -1, weights.shape[1]), regions).flatten(0, 1)
