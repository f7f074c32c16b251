"""BERT (Devlin et al. 2019) that reads a context and a caption: what Oscar and VinVL fine-tune for captions.

The modules have the names of BERT's published state dicts, so `bert.encoder.layer.0.attention.self.query.weight` here
is that of a file. Layers are post-norm: Norm(x + Attend(x)), Norm(x + FeedForward(x)). Dropout is on embeddings and
after every block, not on attention weights.

A text is read in two streams (in the manner of Bao et al. 2020, UniLMv2): that of words, and one of `[MASK]`s, each
of which stands where the next word is to be found. Words look at the context and at the words up to themselves; a mask
looks at the context, at the words before it, and at itself.

B contexts, N texts (those of a context are side by side), H heads, M places of a context, S words so far, T words
that are read now, V pieces, W width.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from captioning.kernels.attention import attention, dot_product_keys
from captioning.kernels.dropout import Dropout
from captioning.settings.decoders import OscarOptions

_EPSILON = 1e-12  # of every norm
_SPREAD = 0.02  # of embeddings that are drawn
_UNREAD = -10_000.0  # what is added to the scores of places that are not read
_SEGMENTS = 2


def norm(width: int) -> nn.LayerNorm:
    """A layer normalisation as BERT has it."""
    return nn.LayerNorm(width, eps=_EPSILON)


def unread(seen: Tensor) -> Tensor:
    """Which places of a context are read, bool (B, M) → what is added to their scores, (B, M)."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, _UNREAD)


class Embeddings(nn.Module):
    """Piece + position + segment, normalised."""

    def __init__(self, pieces: int, options: OscarOptions) -> None:
        super().__init__()
        width = options.width
        self.word_embeddings = nn.Embedding(pieces, width)
        self.position_embeddings = nn.Embedding(options.positions, width)
        self.token_type_embeddings = nn.Embedding(_SEGMENTS, width)
        self.LayerNorm = norm(width)
        self.dropout = Dropout(options.dropout)
        for table in (self.word_embeddings, self.position_embeddings, self.token_type_embeddings):
            nn.init.normal_(table.weight, std=_SPREAD)

    def forward(self, words: Tensor, begin: int, segment: int) -> Tensor:
        """Embedded pieces (N, T, W) at positions `begin` and on → (N, T, W). Beyond the last position all share it."""
        last = self.position_embeddings.num_embeddings - 1
        places = torch.arange(begin, begin + words.shape[1], device=words.device).clamp(max=last)
        embedded = words + self.position_embeddings(places) + self.token_type_embeddings.weight[segment]
        made: Tensor = self.dropout(self.LayerNorm(embedded))
        return made


class _Heads(nn.Module):
    """Queries, keys and values. `attention.self` in BERT's names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def pairs(self, x: Tensor) -> Tensor:
        """(N, T, W) → keys and values (N, T, 2W)."""
        weight, bias = torch.cat([self.key.weight, self.value.weight]), torch.cat([self.key.bias, self.value.bias])
        return functional.linear(x, weight, bias)

    def among(self, x: Tensor, pairs: Tensor, bias: Tensor) -> Tensor:
        """What the places of a context (B, M, W) see of each other; bias (B, M) → (B, M, W)."""
        keys, values = (self.split(part) for part in pairs.chunk(2, dim=2))
        own = bias[:, None, None].to(keys)
        seen = attention(self.split(self.query(x)), dot_product_keys(keys), values, own, causal=False)
        return seen.transpose(1, 2).flatten(2)

    def weights(self, x: Tensor, context: Tensor, text: Tensor, bias: Tensor, hidden: Tensor) -> Tensor:
        """Attention of queries x (N, Q, W) on contexts and texts, (N, H, Q, M + K).

        context: keys and values (B, M, 2W), bias: (B, M). text: keys and values (N, K, 2W), hidden: which of them a
        query does not see, bool (Q, K).
        """
        query = self.split(self.query(x)) / math.sqrt(x.shape[2] // self.heads)  # (N, H, Q, W / H)
        grouped = self._of_context(query, len(context))  # (B, H, N / B * Q, W / H)
        keys = self.split(context.chunk(2, dim=2)[0])
        of_context = self._of_texts(grouped @ keys.transpose(2, 3) + bias[:, None, None].to(keys), len(x))
        of_text = query @ self.split(text.chunk(2, dim=2)[0]).transpose(2, 3)
        return torch.cat([of_context, of_text.masked_fill(hidden, -torch.inf)], dim=3).softmax(dim=3)

    def forward(self, x: Tensor, context: Tensor, text: Tensor, bias: Tensor, hidden: Tensor) -> Tensor:
        """What queries x (N, Q, W) see of contexts and texts, as in `weights`: (N, Q, W)."""
        weights, far_places = self.weights(x, context, text, bias, hidden), context.shape[1]
        of_context, of_text = weights[..., :far_places], weights[..., far_places:]
        far, near = (self.split(pairs.chunk(2, dim=2)[1]) for pairs in (context, text))
        seen = self._of_texts(self._of_context(of_context, len(context)) @ far, len(x)) + of_text @ near
        gathered: Tensor = seen.transpose(1, 2).flatten(2)
        return gathered

    def split(self, x: Tensor) -> Tensor:
        """(N, T, W) → (N, H, T, W / H)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _of_context(self, x: Tensor, contexts: int) -> Tensor:
        """(N, H, Q, …) → (B, H, N / B * Q, …): the texts of a context one after the other."""
        grouped = x.view(contexts, -1, *x.shape[1:])  # (B, N / B, H, Q, …)
        return grouped.transpose(1, 2).flatten(2, 3)

    def _of_texts(self, x: Tensor, texts: int) -> Tensor:
        """What `_of_context` did, undone."""
        apart = x.view(len(x), x.shape[1], texts // len(x), -1, x.shape[3])
        return apart.transpose(1, 2).flatten(0, 1)


class _Output(nn.Module):
    """Norm(x + linear). `attention.output` and `output` in BERT's names."""

    def __init__(self, inner: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dense, self.LayerNorm, self.dropout = nn.Linear(inner, width), norm(width), Dropout(dropout)

    def forward(self, inner: Tensor, x: Tensor) -> Tensor:
        """(…, inner), (…, W) → (…, W)."""
        made: Tensor = self.LayerNorm(x + self.dropout(self.dense(inner)))
        return made


class _Attention(nn.Module):
    def __init__(self, options: OscarOptions) -> None:
        super().__init__()
        self.self = _Heads(options.width, options.heads)
        self.output = _Output(options.width, options.width, options.dropout)


class _Intermediate(nn.Module):
    def __init__(self, options: OscarOptions) -> None:
        super().__init__()
        self.dense = nn.Linear(options.width, options.feed_forward)


class Layer(nn.Module):
    """One layer of BERT."""

    def __init__(self, options: OscarOptions) -> None:
        super().__init__()
        self.attention = _Attention(options)
        self.intermediate = _Intermediate(options)
        self.output = _Output(options.feed_forward, options.width, options.dropout)

    @property
    def heads(self) -> _Heads:
        """What compares and gathers."""
        return self.attention.self

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x (N, T, W), and what its places saw (N, T, W) → (N, T, W)."""
        x = self.attention.output(seen, x)
        made: Tensor = self.output(functional.gelu(self.intermediate.dense(x)), x)
        return made


class _Layers(nn.Module):
    def __init__(self, options: OscarOptions) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(options) for _ in range(options.layers))


class Bert(nn.Module):
    """Embeddings and layers, and the embedding of regions that Oscar adds: D + 6 numbers each.

    Oscar+ (VinVL) normalises embedded regions, with `LayerNorm`; Oscar does not.
    """

    def __init__(self, pieces: int, region_size: int, options: OscarOptions) -> None:
        super().__init__()
        self.embeddings = Embeddings(pieces, options)
        self.img_embedding = nn.Linear(region_size, options.width)
        self.LayerNorm = norm(options.width) if options.image_norm else None
        self.encoder = _Layers(options)
        self.dropout = Dropout(options.dropout)

    @property
    def layers(self) -> list[Layer]:
        """The layers, first to last."""
        return list(self.encoder.layer)  # type: ignore[arg-type]

    def regions(self, regions: Tensor) -> Tensor:
        """(B, R, D + 6) → (B, R, W)."""
        embedded = self.img_embedding(regions)
        made: Tensor = self.dropout(embedded if self.LayerNorm is None else self.LayerNorm(embedded))
        return made

    def context(self, x: Tensor, bias: Tensor) -> Tensor:
        """An embedded context (B, M, W), and what is added to the scores of its places (B, M) → (B, M, 2LW).

        These are its keys and values in every layer: it sees nothing but itself, so they are computed once.
        """
        found = []
        for layer in self.layers:
            found.append(layer.heads.pairs(x))
            if len(found) < len(self.layers):
                x = layer(x, layer.heads.among(x, found[-1], bias))
        return torch.cat(found, dim=2)

    def joint(self, x: Tensor, bias: Tensor) -> Tensor:
        """Embedded places that see each other (N, P, W), and what is added to their scores (N, P) → (N, P, W)."""
        for layer in self.layers:
            x = layer(x, layer.heads.among(x, layer.heads.pairs(x), bias))
        return x


class _Transform(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(width, width), norm(width)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.LayerNorm(functional.gelu(self.dense(x)))
        return made


class _Predictions(nn.Module):
    def __init__(self, pieces: int, width: int) -> None:
        super().__init__()
        self.transform, self.bias = _Transform(width), nn.Parameter(torch.zeros(pieces))


class Head(nn.Module):
    """The head of masked words: dense, gelu, norm, and the word embeddings once more. `cls` in BERT's names."""

    def __init__(self, pieces: int, width: int) -> None:
        super().__init__()
        self.predictions = _Predictions(pieces, width)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """(…, W), word embeddings (V, W) → logits (…, V)."""
        return functional.linear(self.predictions.transform(x), words, self.predictions.bias)


class Contrast(nn.Module):
    """The head of pretraining that tells pairs apart by the first place: `bert.pooler` and `cls.seq_relationship`."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.pooler, self.seq_relationship = nn.Linear(width, width), nn.Linear(width, classes)
        for linear in (self.pooler, self.seq_relationship):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, W) → logits (N, classes)."""
        logits: Tensor = self.seq_relationship(self.pooler(x).tanh())
        return logits
