"""Oscar's captioning (Li et al. 2020; VinVL, Zhang et al. 2021): one BERT over tags, regions and the caption.

Tags and regions see each other, and never the caption. So their keys and values are computed once an image. The
caption sees them, and itself from left to right. The next word is what BERT puts in the place of a `[MASK]` behind the
words so far. Oscar trains a few masks a caption, and a caption a step of the context; here there is a mask at every
word, in a stream of its own (`captioning.decoders.bert`), and all captions of an image share its context. What is said
is the same: a test holds it to `BertForMaskedLM` with Oscar's masks and positions, word by word.

B images, C captions, D feature width, L layers, M = G + R places of a context, N captions or hypotheses, R regions,
G places of tags, S words so far, T tokens, V pieces, W width.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders import published
from captioning.decoders.base import AttendingDecoder, State, for_captions, regions_of, select
from captioning.decoders.bert import Bert, Head, Layer, unread
from captioning.settings import text_models
from captioning.settings.decoders import OscarOptions
from captioning.vision.encoders.at_boxes import CODE, codes
from captioning.vision.encoders.encoded import Encoded

_TAGS = 40  # position of the first tag, however long the caption is: where published models have it
_TEXT, _OBJECTS = 0, 1  # segments of captions and of tags


class OscarDecoder(AttendingDecoder):
    """The state is keys and values of words, a layer each (N, S, 2W), and of the context (B, M, 2LW), and its bias."""

    shared = 2
    reads_tags = True
    of_words = ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias")

    def __init__(self, vocabulary: Vocabulary, feature_size: int, options: OscarOptions) -> None:
        super().__init__(vocabulary)
        self.bert = Bert(len(vocabulary), feature_size + CODE, options)
        self.mask = nn.Parameter(torch.empty(options.width))  # the word embedding of [MASK], which is never said
        self.cls = Head(len(vocabulary), options.width)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for every map: narrow networks would begin with BERT's spread of 0.02 as if they saw nothing."""
        nn.init.normal_(self.mask, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def read_text_model(self, folder: Path) -> Path:
        """Begin with the weights of a BERT, an Oscar or a VinVL; see `published.take_up`."""
        self.load_state_dict(published.take_up(folder, self.vocabulary, self.state_dict()))
        return text_models.weights(folder)

    def init(self, encoded: Encoded) -> State:
        """Regions (B, R, D), and mask, boxes and tags if there are any → no words yet, and the context's part."""
        tags, are_tags = self._tags(encoded)
        regions, are_regions = self._regions(encoded)
        bias = unread(torch.cat([are_tags, are_regions], dim=1))  # (B, M)
        pairs = self.bert.context(torch.cat([tags, regions], dim=1), bias)
        nothing = pairs.new_empty(len(pairs), 0, 2 * len(self.mask))
        return (*[nothing] * len(self.bert.layers), pairs, bias.to(pairs))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N,) → logits (N, V) and the next state."""
        x, state = self._read(tokens.unsqueeze(1), state)
        return self._logits(x.squeeze(1)), state

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → logits (C, T, V)."""
        x, _ = self._read(tokens, for_captions(self.init(encoded), owner, self.shared))
        return self._logits(x)

    def attention(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → how the masks of the last layer weigh regions, the mean over heads, (C, T, R)."""
        *_, last = self._passes(tokens, select(self.init(encoded), owner))
        weights = last.weights().mean(1)[:, :, : last.context.shape[1]]  # (C, T, M)
        regions = weights[:, :, -regions_of(encoded).shape[1] :]
        return regions / regions.sum(2, keepdim=True).clamp(min=torch.finfo(regions.dtype).tiny)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.cls(x, self.bert.embeddings.word_embeddings.weight)
        return logits

    def _read(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N, T) after the S of the state → the masks behind each (N, T, W), and the next state."""
        passes = list(self._passes(tokens, state))
        words = [one.text[:, : one.text.shape[1] - tokens.shape[1]] for one in passes]  # (N, S + T, 2W)
        return passes[-1].masks_after(), (*words, *state[-2:])

    def _passes(self, tokens: Tensor, state: State) -> "Iterator[_Pass]":
        """The layers, one after the other, over the words of the state (N, S) and `tokens` (N, T)."""
        hidden = _hidden(state[0].shape[1], tokens.shape[1], tokens.device)
        x = self._embed(tokens, state[0].shape[1])  # (N, 2T, W)
        layers = self.bert.layers
        for layer, context, words in zip(layers, state[-2].chunk(len(layers), dim=2), state, strict=False):
            one = _Pass(layer, x, context, torch.cat([words, layer.heads.pairs(x)], dim=1), state[-1], hidden)
            yield one
            if layer is not layers[-1]:
                x = one.after()

    def _embed(self, tokens: Tensor, begin: int) -> Tensor:
        """tokens (N, T) at positions `begin` and on, and the masks behind each → (N, 2T, W)."""
        embeddings = self.bert.embeddings
        words = embeddings(embeddings.word_embeddings(tokens), begin, _TEXT)
        return torch.cat([words, embeddings(self.mask.expand_as(words), begin + 1, _TEXT)], dim=1)

    def _regions(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Embedded regions (B, R, W), and which of them there are (B, R)."""
        regions = regions_of(encoded)
        boxes = encoded.boxes
        places = regions.new_zeros(*regions.shape[:2], CODE) if boxes is None else codes(boxes.to(regions))
        there = regions.new_ones(regions.shape[:2], dtype=torch.bool) if encoded.mask is None else encoded.mask
        return self.bert.regions(torch.cat([regions, places], dim=2)), there

    def _tags(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Embedded tags, with `<eos>` behind them, (B, G, W), and which places have one (B, G)."""
        special, embeddings = self.vocabulary.special, self.bert.embeddings
        tags = encoded.mean.new_empty(len(encoded.mean), 0, dtype=torch.long)
        if encoded.tags is not None:
            tags = _ended(encoded.tags.long(), special.pad, special.eos)
        return embeddings(embeddings.word_embeddings(tags), _TAGS, _OBJECTS), tags != special.pad


class _Pass(NamedTuple):
    """One layer, and what it reads: x, the words and behind them the masks, and the keys and values of all."""

    layer: Layer
    x: Tensor  # (N, 2T, W)
    context: Tensor  # (B, M, 2W)
    text: Tensor  # (N, S + 2T, 2W): of the words so far, and of x
    bias: Tensor  # (B, M), added to the scores of the context
    hidden: Tensor  # (2T, S + 2T), bool: what of the text a row of x does not see

    def after(self) -> Tensor:
        """(N, 2T, W)."""
        return self._after(self.x, self.hidden)

    def masks_after(self) -> Tensor:
        """Of the masks alone, (N, T, W): no layer reads the words after the last one."""
        return self._after(*self._masks())

    def weights(self) -> Tensor:
        """What the masks look at, of the context and of the text: (N, H, T, M + S + 2T)."""
        x, hidden = self._masks()
        return self.layer.heads.weights(x, self.context, self.text, self.bias, hidden)

    def _masks(self) -> tuple[Tensor, Tensor]:
        count = self.x.shape[1] // 2
        return self.x[:, count:], self.hidden[count:]

    def _after(self, x: Tensor, hidden: Tensor) -> Tensor:
        made: Tensor = self.layer(x, self.layer.heads(x, self.context, self.text, self.bias, hidden))
        return made


def _ended(tags: Tensor, pad: int, eos: int) -> Tensor:
    """Tags, padded (B, G) → with `<eos>` behind those of each image that has any, (B, G + 1)."""
    longer = torch.cat([tags, tags.new_full((len(tags), 1), pad)], dim=1)
    count = (tags != pad).sum(1, keepdim=True)
    return longer.scatter(1, count, torch.where(count > 0, eos, pad))


def _hidden(begin: int, count: int, device: torch.device) -> Tensor:
    """What words and masks do not see of `begin` words before, of `count` words and of as many masks.

    (2T, S + 2T): a word sees the words up to itself, a mask those before it and itself alone of the masks.
    """
    every, own = torch.ones(count, count, dtype=torch.bool, device=device), torch.eye(count, device=device).bool()
    later = every.triu(1)
    rows = torch.cat([torch.cat([later, every], dim=1), torch.cat([later, ~own], dim=1)])  # (2T, 2T)
    return torch.cat([rows.new_zeros(2 * count, begin), rows], dim=1)


def build(vocabulary: Vocabulary, feature_size: int, **options: Any) -> OscarDecoder:
    """The entry of the table of decoders: `options` are the fields of OscarOptions."""
    return OscarDecoder(vocabulary, feature_size, OscarOptions(**options))
