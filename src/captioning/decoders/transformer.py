"""A transformer decoder (Vaswani et al. 2017) that looks at the regions through cross-attention.

Pre-norm layers (Xiong et al. 2020): x + Attend(Norm(x)) over the words so far, x + Attend(Norm(x)) over the
regions, x + FeedForward(Norm(x)); a last norm before the output. Regions come through a linear map and a norm.
The keys and values of the regions are computed once an image, for all layers in one product; `step` keeps those of
the words, so that a word costs the same however long the caption is. They are kept by head, in the order in which they
are multiplied: those of words as pairs, a key and its value side by side, and the keys of regions as columns.

B images, C captions, N captions or hypotheses, D feature width, E width of a head, H heads, L layers, R regions,
S words so far, T tokens, V words, W width.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.base import AttendingDecoder, State, bias_of, for_captions, regions_of, select
from captioning.kernels.attention import attention, attention_weights, dot_product_keys
from captioning.kernels.dropout import Dropout
from captioning.kernels.logits import WordLogits
from captioning.settings.decoders import TransformerOptions
from captioning.vision.encoders.at_boxes import coded
from captioning.vision.encoders.encoded import Encoded


class TransformerDecoder(AttendingDecoder):
    """The state, each for L layers: pairs of words (N, H, S, 2E), keys (B, H, E, R) and values (B, H, R, E) of regions.

    Last comes a bias of the regions, (B, R) or (B, 0).
    """

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
        self.shared = 2 * layers + 1
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
        """regions (B, R, D) → no words yet, the keys and the values of the regions, and their bias."""
        pairs = self._memory(encoded)
        return self._begin(len(pairs), pairs, bias_of(encoded))

    def _memory(self, encoded: Encoded) -> Tensor:
        """regions (B, R, D) → keys and values of each layer in turn (B, R, 2LW)."""
        pairs: Tensor = self.memory_pairs(self.dropout(self.memory(regions_of(coded(encoded)))))
        return pairs

    def _begin(self, count: int, pairs: Tensor, bias: Tensor) -> State:
        """The state of `count` hypotheses before the first word. pairs: from `_memory`."""
        parts = pairs.chunk(len(self.layers), dim=2)  # (B, R, 2W) each
        seen = [layer.seen(part) for layer, part in zip(self.layers, parts, strict=True)]  # type: ignore[operator]
        keys, values = zip(*seen, strict=True)
        _, heads, _, width = values[0].shape
        nothing = pairs.new_empty(count, heads, 0, 2 * width)
        return (*[nothing] * len(self.layers), *keys, *values, bias)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N,) → logits (N, V) and the next state."""
        x, state = self._read(tokens.unsqueeze(1), state)
        return self.output(self.norm(x.squeeze(1))), state

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → logits (C, T, V)."""
        own = for_captions((self._memory(encoded), bias_of(encoded)), owner, shared=2)
        x, _ = self._read(tokens, self._begin(len(tokens), *own))
        logits: Tensor = self.output(self.norm(x))
        return logits

    def attention(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → weights of the last layer, the mean over its heads, (C, T, R)."""
        state = select(self.init(encoded), owner)
        x = self._embed(tokens, 0)
        for layer, words, keys, values in self._with_state(state):
            before, _ = layer.self_attention(x, words)
            x = layer.feed_forward(layer.cross_attention(before, keys, values, state[-1]))
        return layer.weights(before, keys, state[-1])

    def _read(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N, T) after the S of the state → what the last layer makes of them (N, T, W), and the next state."""
        x = self._embed(tokens, state[0].shape[2])
        after = []
        for layer, words, keys, values in self._with_state(state):
            x, words = layer.self_attention(x, words)
            x = layer.feed_forward(layer.cross_attention(x, keys, values, state[-1]))
            after.append(words)
        return x, (*after, *state[len(after) :])

    def _with_state(self, state: State) -> "zip[tuple[_Layer, Tensor, Tensor, Tensor]]":
        """Each layer, its words, and the keys and the values of the regions."""
        count = len(self.layers)
        words, keys, values = (state[start * count : (start + 1) * count] for start in range(3))
        return zip(self.layers, words, keys, values, strict=True)  # type: ignore[arg-type]

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
        """x (N, T, W), pairs of the words before (N, H, S, 2E) → x and those with x's own (N, H, S + T, 2E).

        Several tokens at once are the first ones: S is 0 where T is more than 1.
        """
        width = x.shape[2]
        query, *own = self.self_in(self.self_norm(x)).split(width, dim=2)
        keys, values = map(self._by_head, own)
        pairs = torch.cat([before, torch.cat([dot_product_keys(keys), values], dim=3)], dim=2)
        attended = self._attend(query, *pairs.chunk(2, dim=3), causal=x.shape[1] > 1)
        return x + self.dropout(self.self_out(attended)), pairs

    def cross_attention(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """x (N, T, W), keys (B, H, E, R) and values (B, H, R, E), their bias (B, R) or (B, 0) → x (N, T, W)."""
        query = self.cross_in(self.cross_norm(x))
        queries = query.view(len(keys), -1, query.shape[2])  # an image's side by side
        attended = self._attend(queries, keys.transpose(2, 3), values, _of_keys(bias)).view_as(x)
        return x + self.dropout(self.cross_out(attended))  # type: ignore[no-any-return]

    def feed_forward(self, x: Tensor) -> Tensor:
        """x (N, T, W) → x (N, T, W)."""
        inner = self.dropout(self.feed_in(self.feed_norm(x)).relu())  # (N, T, feed_forward)
        output: Tensor = self.dropout(self.feed_out(inner))
        return x + output

    def seen(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of regions (B, R, 2W) → as `cross_attention` takes them."""
        keys, values = (self._by_head(part) for part in pairs.chunk(2, dim=2))
        return dot_product_keys(keys).transpose(2, 3).contiguous(), values.contiguous()

    def weights(self, x: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
        """The weights of `cross_attention`, the mean over heads: (N, T, R)."""
        query = self._by_head(self.cross_in(self.cross_norm(x)))
        return attention_weights(query, keys.transpose(2, 3), _of_keys(bias)).mean(1)

    def _attend(
        self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """query (N, T, W), keys and values (N, H, …, E) → (N, T, W)."""
        seen = attention(self._by_head(query), keys, values, bias, causal=causal)  # (N, H, T, E)
        return seen.transpose(1, 2).flatten(2)

    def _by_head(self, x: Tensor) -> Tensor:
        """(N, T, W) → (N, H, T, E)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


def _of_keys(bias: Tensor) -> Tensor | None:
    """(B, R) → as `attention` takes it; (B, 0) → None."""
    return bias[:, None, None] if bias.shape[1] else None


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
