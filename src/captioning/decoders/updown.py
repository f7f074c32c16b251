"""Bottom-up and top-down attention (Anderson et al. 2018): an LSTM that looks, and an LSTM that speaks.

    h¹_t = LSTM([h²_{t-1}; v̅; W_e y_{t-1}], h¹_{t-1})          reads the mean region v̅
    α_t = softmax(wᵀ tanh(W_v v_i + W_h h¹_t))
    h²_t = LSTM([Σ_i α_ti v_i; h¹_t], h²_{t-1})                  reads what is attended
    p(y_t) = softmax(W_p h²_t)

C captions, N captions or hypotheses, A attention width, B images, D feature width, E embedding, H hidden,
R regions, T tokens, V words.
"""

import torch
from torch import Tensor, nn

from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.base import AttendingDecoder, State, bias_of, for_captions, regions_of
from captioning.decoders.recurrent import AdditiveAttention, lstm_cell, weighted_sum
from captioning.kernels.logits import WordLogits
from captioning.settings.decoders import UpDownOptions
from captioning.vision.encoders.at_boxes import coded
from captioning.vision.encoders.encoded import Encoded


class UpDownDecoder(AttendingDecoder):
    """The state is (h¹, c¹, h², c²), each (N, H), the mean's part of the gates (N, 4H), keys, regions, bias (B, …)."""

    shared = 3

    def __init__(self, vocabulary: Vocabulary, feature_size: int, options: UpDownOptions) -> None:
        super().__init__(vocabulary)
        embedding, hidden, attention = options.embedding_size, options.hidden_size, options.attention_size
        dropout = options.dropout
        self.hidden_size = hidden
        self.attend = AdditiveAttention(feature_size, attention)
        self.embedding = nn.Embedding(len(vocabulary), embedding, padding_idx=vocabulary.special.pad)
        self.from_mean = nn.Linear(feature_size, 4 * hidden)
        self.from_word = nn.Linear(embedding, 4 * hidden, bias=False)
        self.looking = nn.Linear(2 * hidden, 4 * hidden, bias=False)  # of h¹ and h²
        self.from_looking = nn.Linear(hidden, attention + 4 * hidden)  # query and the language LSTM's part
        self.language = nn.Linear(feature_size + hidden, 4 * hidden, bias=False)  # of what is attended and h²
        self.dropout = nn.Dropout(dropout)
        self.output = WordLogits(hidden, len(vocabulary))

    def init(self, encoded: Encoded) -> State:
        """mean (B, D), regions (B, R, D) → the state before the first word."""
        encoded = coded(encoded)
        regions = regions_of(encoded)
        zeros = encoded.mean.new_zeros(len(regions), self.hidden_size)
        of_images = self.attend.prepare(regions), regions, bias_of(encoded)
        return zeros, zeros, zeros, zeros, self.from_mean(encoded.mean), *of_images

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N,) → logits (N, V) and the next state."""
        state, _ = self._advance(self._read(tokens) + state[4], state)
        return self.output(self.dropout(state[2])), state

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → logits (C, T, V)."""
        hidden, _ = self._unroll(encoded, tokens, owner)
        logits: Tensor = self.output(self.dropout(hidden))
        return logits

    def attention(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → α (C, T, R)."""
        return self._unroll(encoded, tokens, owner)[1]

    def _read(self, tokens: Tensor) -> Tensor:
        gates: Tensor = self.from_word(self.dropout(self.embedding(tokens)))  # (…, 4H)
        return gates

    def _unroll(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher forcing: h² (C, T, H) and α (C, T, R). Only what depends on the state is computed in the loop."""
        state = for_captions(self.init(encoded), owner, self.shared)
        hidden, alphas = [], []
        for gates in (self._read(tokens) + state[4].unsqueeze(1)).unbind(1):
            state, alpha = self._advance(gates, state)
            hidden.append(state[2])
            alphas.append(alpha)
        return torch.stack(hidden, dim=1), torch.stack(alphas, dim=1)

    def _advance(self, gates: Tensor, state: State) -> tuple[State, Tensor]:
        """The words' and the mean's part of the gates (N, 4H) → the next state and α (N, R)."""
        h1, c1, h2, c2, mean, keys, regions, bias = state
        h1, c1 = lstm_cell(gates + self.looking(torch.cat([h1, h2], dim=1)), c1)
        query, recurrent = self.from_looking(h1).split([keys.shape[2], gates.shape[1]], dim=1)
        alpha = self.attend(query, keys, bias)
        attended = torch.cat([weighted_sum(alpha, regions), h2], dim=1)  # (N, D + H)
        h2, c2 = lstm_cell(recurrent + self.language(attended), c2)
        return (h1, c1, h2, c2, mean, keys, regions, bias), alpha


def build(vocabulary: Vocabulary, feature_size: int, **options: float) -> UpDownDecoder:
    """The entry of the table of decoders: `options` are the fields of UpDownOptions."""
    return UpDownDecoder(vocabulary, feature_size, UpDownOptions(**options))  # type: ignore[arg-type]
