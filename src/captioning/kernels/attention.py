"""Attention: additive over regions, and scaled dot products over words or regions.

N captions or hypotheses, of B images (N is B, or a multiple of it: those of an image are side by side), A attention
width, H heads, K keys, Q queries, R regions, W width of a head.
"""

import torch
from torch import Tensor
from torch.nn import functional

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


def dot_product_keys(keys: Tensor) -> Tensor:
    """Keys (…, W) → what `attention` reads of them, computed once for all queries: divided by the fourth root of W."""
    return keys * keys.shape[-1] ** -0.25 if _written_out(keys) else keys


def attention(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None, *, causal: bool) -> Tensor:
    """softmax(Q Kᵀ / √W) V (Vaswani et al. 2017): query (B, H, Q, W), keys and values (B, H, K, W) → (B, H, Q, W).

    keys: from `dot_product_keys`. bias (B, 1, 1, K): added to the scores of each key. causal: of as many keys as
    queries, each query sees those up to its own.

    The fast way is written out: rows are short here, for which the CPU's fused kernel is slow, and keys that many
    queries read one after the other are scaled once.
    """
    if _written_out(query):
        return attention_weights(query, keys, bias, causal=causal) @ values
    return functional.scaled_dot_product_attention(query, keys, values, bias, is_causal=causal)


def attention_weights(query: Tensor, keys: Tensor, bias: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """What `attention` multiplies the values by, (B, H, Q, K)."""
    width = query.shape[3]
    scores = (query * width ** (-0.25 if _written_out(query) else -0.5)) @ keys.transpose(2, 3)
    if bias is not None:
        scores = scores + bias
    if causal:
        later = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    weights: Tensor = scores.softmax(dim=3)
    return weights


def _written_out(x: Tensor) -> bool:
    return x.device.type == "cpu" and not kernels.plain()
