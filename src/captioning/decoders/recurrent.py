"""What the recurrent decoders that attend share: the LSTM cell, and additive attention over regions.

N captions or hypotheses, of B pictures (N is B, or a multiple of it: those of a picture are side by side), A attention
width, D feature width, H hidden, R regions.
"""

import torch
from torch import Tensor, nn


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """The pre-activations (N, 4H) of input, forget and output gate and candidate, and c (N, H) → the next h and c."""
    hidden = c.shape[1]
    i, f, o = gates[:, : 3 * hidden].sigmoid().chunk(3, dim=1)
    c = torch.addcmul(f * c, i, gates[:, 3 * hidden :].tanh())
    return o * c.tanh(), c


class AdditiveAttention(nn.Module):
    """α = softmax(wᵀ tanh(W_a a_i + q)) (Bahdanau et al. 2015), for which 2 W_a a_i is computed once a picture.

    tanh x = 2 σ(2x) − 1, and softmax does not see a constant: α = softmax(2 wᵀ σ(2 W_a a_i + 2 q)). CPUs have a fast σ
    in bfloat16, and a tanh that takes three times as long; near 0, where tanh would be finer, σ has eight bits.
    """

    def __init__(self, feature_size: int, attention_size: int) -> None:
        super().__init__()
        self.keys = nn.Linear(feature_size, attention_size)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def twice_keys(self, regions: Tensor) -> Tensor:
        """regions (B, R, D) → 2 W_a a_i, (B, R, A)."""
        keys: Tensor = self.keys(regions)
        return 2 * keys

    def forward(self, query: Tensor, twice_keys: Tensor) -> Tensor:
        """query (N, A), twice_keys (B, R, A) → weights (N, R)."""
        queries = 2 * query.view(len(twice_keys), -1, 1, query.shape[1])  # (B, N / B, 1, A)
        scores: Tensor = 2 * self.score((twice_keys.unsqueeze(1) + queries).sigmoid_())  # (B, N / B, R, 1)
        return scores.flatten(0, 1).squeeze(2).softmax(dim=1)


def weighted_sum(weights: Tensor, regions: Tensor) -> Tensor:
    """weights (N, R), regions (B, R, D) → Σ_i weights_i regions_i, (N, D)."""
    return torch.bmm(weights.view(len(regions), -1, weights.shape[1]), regions).flatten(0, 1)
