"""Attention: additive over regions, and scaled dot products over words or regions.

N captions or hypotheses, of B images (N is B, or a multiple of it: those of an image are side by side), A attention
width, H heads, K keys, Q queries, R regions, W width of a head.
"""

from contextlib import nullcontext

from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from captioning import kernels


def additive_keys(keys: Tensor) -> Tensor:
    """W_a a_i (B, R, A) → what `additive_attention` reads of them, computed once an image."""
    return keys if kernels.plain() else 2 * keys


def additive_attention(query: Tensor, keys: Tensor, score: Tensor, bias: Tensor) -> Tensor:
    """α = softmax(wᵀ tanh(W_a a_i + q)) (Bahdanau et al. 2015).

    query q (N, A), keys (B, R, A) from `additive_keys`, score w (1, A) → α (N, R).
    bias (B, R) is added to the scores; (B, 0): nothing is.
    The fast way: tanh x = 2 σ(2x) − 1, and softmax does not see a constant: α = softmax(2 wᵀ σ(2 W_a a_i + 2 q)). CPUs
    have a fast σ in bfloat16, and a tanh that takes three times as long; near 0, where tanh would be finer, σ has eight
    bits.
    """
    queries = query.view(len(keys), -1, 1, query.shape[1])  # (B, N / B, 1, A)
    if kernels.plain():
        scores = functional.linear((keys.unsqueeze(1) + queries).tanh(), score)  # (B, N / B, R, 1)
    else:
        scores = 2 * functional.linear((keys.unsqueeze(1) + 2 * queries).sigmoid_(), score)
    scores = scores.squeeze(3)  # (B, N / B, R)
    if bias.shape[1]:
        scores = scores + bias.unsqueeze(1)
    return scores.flatten(0, 1).softmax(dim=1)


def attention(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None, *, causal: bool) -> Tensor:
    """softmax(Q Kᵀ / √W) V (Vaswani et al. 2017): query (B, H, Q, W), keys and values (B, H, K, W) → (B, H, Q, W).

    bias (B, 1, 1, K): added to the scores of each key.

    The fast way: without the CPU's fused kernel, since rows are short here, and it is slow in bfloat16.
    """
    fast = query.device.type == "cpu" and not kernels.plain()
    with sdpa_kernel(SDPBackend.MATH) if fast else nullcontext():
        return functional.scaled_dot_product_attention(query, keys, values, bias, is_causal=causal)
