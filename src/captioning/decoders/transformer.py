"""A transformer decoder (Vaswani et al. 2017) that looks at the regions through cross-attention.

Pre-norm layers (Xiong et al. 2020): x + Attend(Norm(x)) over the words so far, x + Attend(Norm(x)) over the
regions, x + FeedForward(Norm(x)); a last norm before the output. Regions come through a linear map and a norm.
The keys and values of the regions are computed once an image, for all layers in one product; `step` keeps those of
the words, so that a word costs the same however long the caption is.

B images, C captions, N captions or hypotheses, D feature width, L layers, R regions, S words so far, T tokens,
V words, W width.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.base import AttendingDecoder, State, bias_of, for_captions, regions_of, select
from captioning.kernels.attention import attention
from captioning.kernels.dropout import Dropout
from captioning.kernels.logits import WordLogits
from captioning.settings.decoders import TransformerOptions
from captioning.vision.encoders.at_boxes import coded
from captioning.vision.encoders.encoded import Encoded


class TransformerDecoder(AttendingDecoder):
    """The state is keys and values of words, a layer each (N, S, 2W), and of regions (B, R, 2LW), and their bias."""

    shared = 2

    def __init__(self, vocabulary: Vocabulary, feature_size: int, options: TransformerOptions) -> None:
        super().__init__(vocabulary)
        width, layers, heads, dropout = options.width, options.layers, options.heads, options.dropout
        self.memory = nn.Sequential(nn.Linear(feature_size, width), nn.LayerNorm(width))
        self.memory_pairs = nn.Linear(width, layers * 2 * width)  # keys and values of every layer
        self.embedding = nn.Embedding(len(vocabulary), width, padding_idx=vocabulary.special.pad)
        self.layers = nn.ModuleList(_Layer(width, heads, options.feed_forward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.output = WordLogits(width, len(vocabulary))
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for every map, and embeddings of the positions' size once scaled (Vaswani et al., section 3.4)."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and module is not self.output:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=self.embedding.embedding_dim**-0.5)
        nn.init.zeros_(self.embedding.weight[self.vocabulary.special.pad])

    def init(self, encoded: Encoded) -> State:
        """regions (B, R, D) → no words yet, keys and values of the regions (B, R, 2LW), and their bias."""
        pairs = self.memory_pairs(self.dropout(self.memory(regions_of(coded(encoded)))))
        nothing = pairs.new_empty(len(pairs), 0, 2 * self.embedding.embedding_dim)
        return (*[nothing] * len(self.layers), pairs, bias_of(encoded))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N,) → logits (N, V) and the next state."""
        x, state = self._read(tokens.unsqueeze(1), state)
        return self.output(self.norm(x.squeeze(1))), state

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → logits (C, T, V)."""
        x, _ = self._read(tokens, for_captions(self.init(encoded), owner, self.shared))
        logits: Tensor = self.output(self.norm(x))
        return logits

    def attention(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → weights of the last layer, the mean over its heads, (C, T, R)."""
        state = select(self.init(encoded), owner)
        x = self._embed(tokens, 0)
        for layer, pairs, words in self._with_state(state):
            before, _ = layer.self_attention(x, words)
            x = layer.feed_forward(layer.cross_attention(before, pairs, state[-1]))
        return layer.weights(before, pairs, state[-1])

    def _read(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N, T) after the S of the state → what the last layer makes of them (N, T, W), and the next state."""
        x = self._embed(tokens, state[0].shape[1])
        after = []
        for layer, pairs, words in self._with_state(state):
            x, words = layer.self_attention(x, words)
            x = layer.feed_forward(layer.cross_attention(x, pairs, state[-1]))
            after.append(words)
        return x, (*after, *state[-2:])

    def _with_state(self, state: State) -> "zip[tuple[_Layer, Tensor, Tensor]]":
        pairs = state[-2].chunk(len(self.layers), dim=2)  # (B, R, 2W) a layer
        return zip(self.layers, pairs, state[:-2], strict=True)  # type: ignore[arg-type]

    def _embed(self, tokens: Tensor, begin: int) -> Tensor:
        """tokens (N, T) at positions `begin` and on → (N, T, W)."""
        width = self.embedding.embedding_dim
        places = sinusoids(begin, tokens.shape[1], width).to(self.embedding.weight)
        embedded: Tensor = self.dropout(self.embedding(tokens) * math.sqrt(width) + places)
        return embedded


class _Layer(nn.Module):
    """One layer: self-attention over words, cross-attention over regions, feed-forward."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.self_norm, self.cross_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.self_in, self.self_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.cross_in, self.cross_out = nn.Linear(width, width), nn.Linear(width, width)
        self.feed_in, self.feed_out = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.dropout = Dropout(dropout)
        self.register_load_state_dict_pre_hook(_rename)  # type: ignore[no-untyped-call]

    def self_attention(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, T, W), keys and values of the words before (N, S, 2W) → x and those with x's own (N, S + T, 2W).

        Several tokens at once are the first ones: S is 0 where T is more than 1.
        """
        width = x.shape[2]
        query, own = self.self_in(self.self_norm(x)).split([width, 2 * width], dim=2)
        pairs = torch.cat([before, own], dim=1)
        return x + self.dropout(self.self_out(self._attend(query, pairs, causal=x.shape[1] > 1))), pairs

    def cross_attention(self, x: Tensor, pairs: Tensor, bias: Tensor) -> Tensor:
        """x (N, T, W), keys and values of the regions (B, R, 2W), their bias (B, R) or (B, 0) → x (N, T, W)."""
        query = self.cross_in(self.cross_norm(x))
        queries = query.view(len(pairs), -1, query.shape[2])  # an image's side by side
        seen = self._attend(queries, pairs, bias[:, None, None] if bias.shape[1] else None)
        attended: Tensor = self.dropout(self.cross_out(seen.view_as(x)))
        return x + attended

    def feed_forward(self, x: Tensor) -> Tensor:
        """x (N, T, W) → x (N, T, W)."""
        inner = self.dropout(self.feed_in(self.feed_norm(x)).relu())  # (N, T, feed_forward)
        output: Tensor = self.dropout(self.feed_out(inner))
        return x + output

    def weights(self, x: Tensor, pairs: Tensor, bias: Tensor) -> Tensor:
        """The weights of `cross_attention`, the mean over heads: (N, T, R)."""
        query = self._split(self.cross_in(self.cross_norm(x)))  # (N, heads, T, W / heads)
        keys = self._split(pairs.chunk(2, dim=2)[0])
        scores = query @ keys.transpose(2, 3) / math.sqrt(query.shape[3])
        biased = scores + bias[:, None, None] if bias.shape[1] else scores
        return biased.softmax(dim=3).mean(1)

    def _attend(self, query: Tensor, pairs: Tensor, bias: Tensor | None = None, *, causal: bool = False) -> Tensor:
        keys, values = (self._split(part) for part in pairs.chunk(2, dim=2))
        seen = attention(self._split(query), keys, values, bias, causal=causal)
        return seen.transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        """(N, T, W) → (N, heads, T, W / heads)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def _rename(_module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Models saved before 2026-12 have other names of a layer's parameters."""
    for old, new in (("recall_", "self_"), ("look_", "cross_"), ("think_", "feed_")):
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)


def sinusoids(begin: int, count: int, width: int) -> Tensor:
    """The positions `begin`, `begin` + 1, … (Vaswani et al., section 3.5): (count, width), sines before cosines."""
    places = torch.arange(begin, begin + count, dtype=torch.float32).unsqueeze(1)
    rates = torch.exp(torch.arange(width // 2) * (-math.log(10_000.0) * 2 / width))
    angles = places * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def build(vocabulary: Vocabulary, feature_size: int, **options: float) -> TransformerDecoder:
    """The entry of the table of decoders: `options` are the fields of TransformerOptions."""
    return TransformerDecoder(vocabulary, feature_size, TransformerOptions(**options))  # type: ignore[arg-type]
