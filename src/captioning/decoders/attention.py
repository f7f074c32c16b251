"""Show, Attend and Tell (Xu et al. 2015): an LSTM that looks at the regions before each word.

    h_0, c_0 = tanh(W a̅), tanh(W' a̅)                      two maps of the mean region
    α_t = softmax(wᵀ tanh(W_a a_i + W_h h_{t-1}))            where to look
    z_t = σ(w_β · h_{t-1}) Σ_i s_ti a_i                      what is seen, gated by one number
    h_t, c_t = LSTM([E y_{t-1}; z_t], h_{t-1}, c_{t-1})
    p(y_t) = softmax(W_o tanh(W_h' h_t + E y_{t-1} + W_z z_t))   deep output

Soft attention looks everywhere at once, s = α, and is kept from neglecting any region. Hard attention draws one
region from α, and learns where to look by REINFORCE. Captions are searched with s = α in both, as the authors' code
does.

C captions, N captions or hypotheses, A attention width, B images, D feature width, E embedding, H hidden,
R regions, T tokens, V words.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.base import AttendingDecoder, State, bias_of, for_captions, regions_of
from captioning.decoders.losses import Mean, caption_loss
from captioning.decoders.recurrent import AdditiveAttention, lstm_cell, weighted_sum
from captioning.kernels.logits import WordLogits
from captioning.settings.decoders import AttentionOptions
from captioning.vision.encoders.at_boxes import coded
from captioning.vision.encoders.encoded import Encoded

Choice = Callable[[Tensor], Tensor]
"""Attention weights α (N, R) → the weights s (N, R) that regions are summed with."""

_DECAY = 0.9  # of the moving average that REINFORCE takes as its baseline (section 4.1)


class Unrolled(NamedTuple):
    """What teacher forcing gives: logits (C, T, V), α and the weights that were used, each (C, T, R)."""

    logits: Tensor
    alpha: Tensor
    weights: Tensor


class SoftAttentionDecoder(AttendingDecoder):
    """The state is (h, c, keys, regions, bias): (N, H), (N, H), (B, R, A), (B, R, D) and that of `bias_of`."""

    shared = 3

    def __init__(self, vocabulary: Vocabulary, feature_size: int, options: AttentionOptions) -> None:
        super().__init__(vocabulary)
        embedding, hidden, attention = options.embedding_size, options.hidden_size, options.attention_size
        self.options = options
        self.attend = AdditiveAttention(feature_size, attention)
        self.start = nn.Linear(feature_size, 2 * hidden)  # h_0 and c_0
        self.embedding = nn.Embedding(len(vocabulary), embedding, padding_idx=vocabulary.special.pad)
        self.from_word = nn.Linear(embedding, 4 * hidden)
        self.from_hidden = nn.Linear(hidden, attention + 1 + 4 * hidden)  # query, β and the gates' part
        self.from_context = nn.Linear(feature_size, 4 * hidden, bias=False)
        self.dropout = nn.Dropout(options.dropout)
        self.hidden_out = nn.Linear(hidden, embedding)
        self.context_out = nn.Linear(feature_size, embedding, bias=False)
        self.output = WordLogits(embedding, len(vocabulary))

    def init(self, encoded: Encoded) -> State:
        """mean (B, D), regions (B, R, D) → the state before the first word."""
        encoded = coded(encoded)
        regions = regions_of(encoded)
        h, c = self.start(encoded.mean).tanh().chunk(2, dim=1)
        return h, c, self.attend.prepare(regions), regions, bias_of(encoded)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N,) → logits (N, V) and the next state."""
        words = self.embedding(tokens)  # (N, E)
        h, c, context, _, _ = self._advance(self.from_word(words), state, self._choice(len(tokens)))
        return self._logits(words, h, context), (h, c, *state[2:])

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → logits (C, T, V)."""
        return self._unroll(encoded, tokens, owner).logits

    def attention(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → α (C, T, R)."""
        return self._unroll(encoded, tokens, owner).alpha

    def losses(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,) → the caption loss, and the doubly stochastic penalty (section 4.2.1)."""
        unrolled = self._unroll(encoded, tokens[:, :-1], owner)
        caption = caption_loss(unrolled.logits, tokens, self.vocabulary.special)
        penalty = doubly_stochastic_penalty(unrolled.alpha, tokens[:, 1:] != self.vocabulary.special.pad)
        return {"caption": caption, "attention": Mean(self.options.doubly_stochastic * penalty, caption.size)}

    def _choice(self, captions: int) -> Choice:  # noqa: ARG002 (a hard choice is drawn for each caption)
        """How `captions` captions choose their regions."""
        return lambda alpha: alpha

    def _unroll(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Unrolled:
        """Teacher forcing. Only what depends on h is computed in the loop over words."""
        state = for_captions(self.init(encoded), owner, self.shared)
        words = self.embedding(tokens)  # (C, T, E)
        choice = self._choice(len(tokens))
        seen: list[tuple[Tensor, ...]] = []
        for part in self.from_word(words).unbind(1):
            h, c, context, alpha, weights = self._advance(part, state, choice)
            state = (h, c, *state[2:])
            seen.append((h, context, alpha, weights))
        h, context, alpha, weights = (torch.stack(tensors, dim=1) for tensors in zip(*seen, strict=True))  # (C, T, …)
        return Unrolled(self._logits(words, h, context), alpha, weights)

    def _advance(self, words: Tensor, state: State, choice: Choice) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The words' part of the gates (N, 4H) → h, c, context (N, D), α and s (N, R)."""
        h, c, keys, regions, bias = state
        sizes = [keys.shape[2], 1, words.shape[1]]
        query, beta, recurrent = self.from_hidden(h).split(sizes, dim=1)
        alpha = self.attend(query, keys, bias)
        weights = choice(alpha)
        context = weighted_sum(beta.sigmoid() * weights, regions)
        h, c = lstm_cell(words + recurrent + self.from_context(context), c)
        return h, c, context, alpha, weights

    def _logits(self, words: Tensor, h: Tensor, context: Tensor) -> Tensor:
        """The deep output (equation 7): words (…, E), h (…, H), context (…, D) → logits (…, V)."""
        hidden = self.hidden_out(self.dropout(h)) + words + self.context_out(context)
        logits: Tensor = self.output(self.dropout(hidden.tanh()))
        return logits


class HardAttentionDecoder(SoftAttentionDecoder):
    """Looks at one region a word in training; `baseline` is the moving average of a caption's log-likelihood."""

    baseline: Tensor

    def __init__(self, vocabulary: Vocabulary, feature_size: int, options: AttentionOptions) -> None:
        super().__init__(vocabulary, feature_size, options)
        self.register_buffer("baseline", torch.zeros(()))

    def losses(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> dict[str, Mean]:
        """tokens (C, T), owner (C,) → the caption loss, and the terms of REINFORCE (section 4.1)."""
        unrolled, targets = self._unroll(encoded, tokens[:, :-1], owner), tokens[:, 1:]
        caption = caption_loss(unrolled.logits, tokens, self.vocabulary.special)
        pad = self.vocabulary.special.pad
        nats = functional.cross_entropy(
            unrolled.logits.detach().transpose(1, 2), targets, ignore_index=pad, reduction="none"
        )
        likelihood = -nats.sum(1)  # (C,) log p(y | s)
        counted = (targets != pad).unsqueeze(2)  # (C, T, 1)
        log_alpha = unrolled.alpha.clamp_min(torch.finfo(unrolled.alpha.dtype).tiny).log() * counted
        looked = (unrolled.weights * log_alpha).sum((1, 2))  # (C,) log p(s)
        entropy = -(unrolled.alpha * log_alpha).sum()
        words = counted.sum()
        terms = {
            "reinforce": -self.options.reinforce * ((likelihood - self.baseline) * looked).sum() / words,
            "entropy": -self.options.entropy * entropy / words,
        }
        if self.training:
            self.baseline.lerp_(likelihood.mean(), 1 - _DECAY)
        return {"caption": caption} | {name: Mean(term, caption.size) for name, term in terms.items()}

    def _choice(self, captions: int) -> Choice:
        """In training one region is drawn from α; some captions keep their α throughout. No gradient passes."""
        if not self.training:
            return super()._choice(captions)
        device = self.start.weight.device
        sampled = torch.rand(captions, 1, device=device) < self.options.sampling  # (C, 1)

        def choose(alpha: Tensor) -> Tensor:
            alpha = alpha.detach()
            one = torch.zeros_like(alpha).scatter_(1, torch.multinomial(alpha, 1), 1.0)
            return torch.where(sampled, one, alpha)

        return choose


def doubly_stochastic_penalty(alpha: Tensor, counted: Tensor) -> Tensor:
    """Σ_i (1 − Σ_t α_ti)² of each caption, summed over captions and divided by the words that count.

    alpha (C, T, R); counted (C, T), bool, False on padding.
    """
    looked = (alpha * counted.unsqueeze(2)).sum(1)  # (C, R)
    return (1 - looked).square().sum() / counted.sum()


KINDS = {"soft": SoftAttentionDecoder, "hard": HardAttentionDecoder}


def build(vocabulary: Vocabulary, feature_size: int, **options: Any) -> SoftAttentionDecoder:
    """The entry of the table of decoders: `options` are the fields of AttentionOptions."""
    made = AttentionOptions(**options)
    return KINDS[made.kind](vocabulary, feature_size, made)
