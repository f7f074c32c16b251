"""NeuralTalk (Karpathy and Fei-Fei 2015), with both recurrent networks of the authors' code.

    rnn:  h_t = max(0, W_x x_t + W_h h_{t-1} + b + W_v v)     the image is added at every step
    lstm: the image W_v v is read before `<bos>`; the output at that step is not used

Half of the inputs and of the outputs are dropped, number by number. The output's bias begins as the logarithm of
each word's frequency, so that training does not begin by learning that. The LSTM is torch's, with the tanh on the
cell that NeuralTalk has as its option `tanhC_version`.

B images, C captions, N captions or hypotheses, D feature width, E embedding, H hidden, T tokens, V words.
"""

from typing import Any

import torch
from torch import Tensor, nn

from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.base import Decoder, State, select
from captioning.kernels.logits import WordLogits
from captioning.settings.decoders import NeuralTalkOptions
from captioning.vision.encoders.encoded import Encoded


class _NeuralTalk(Decoder):
    """What both have: words, dropout, and an output whose bias is set from word frequencies."""

    def __init__(self, vocabulary: Vocabulary, options: NeuralTalkOptions) -> None:
        super().__init__(vocabulary)
        self.embedding = nn.Embedding(len(vocabulary), options.embedding_size, padding_idx=vocabulary.special.pad)
        self.dropout = nn.Dropout(options.dropout)
        self.output = WordLogits(options.hidden_size, len(vocabulary))

    def expect(self, counts: Tensor) -> None:
        """Set the output's bias to log(counts / max counts), (V,); a word that never follows another counts as one."""
        counts = counts.clamp_min(1).to(self.output.bias)
        with torch.no_grad():
            self.output.bias[: len(counts)] = (counts / counts.max()).log()


class RnnNeuralTalkDecoder(_NeuralTalk):
    """The state is (h, image), each (N, H)."""

    def __init__(self, vocabulary: Vocabulary, feature_size: int, options: NeuralTalkOptions) -> None:
        super().__init__(vocabulary, options)
        hidden = options.hidden_size
        self.picture = nn.Linear(feature_size, hidden)
        self.from_word = nn.Linear(options.embedding_size, hidden, bias=False)
        self.from_hidden = nn.Linear(hidden, hidden, bias=False)

    def init(self, encoded: Encoded) -> State:
        """mean (B, D) → h, zero, and the image's part of every step, each (B, H)."""
        image = self.dropout(self.picture(encoded.mean))
        return torch.zeros_like(image), image

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N,) → logits (N, V) and the next state."""
        h = self._advance(self._read(tokens) + state[1], state[0])
        return self.output(self.dropout(h)), (h, state[1])

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → logits (C, T, V)."""
        h, image = select(self.init(encoded), owner)
        hidden = []
        for inputs in (self._read(tokens) + image.unsqueeze(1)).unbind(1):  # (C, H)
            h = self._advance(inputs, h)
            hidden.append(h)
        logits: Tensor = self.output(self.dropout(torch.stack(hidden, dim=1)))
        return logits

    def _read(self, tokens: Tensor) -> Tensor:
        words: Tensor = self.from_word(self.dropout(self.embedding(tokens)))  # (…, H)
        return words

    def _advance(self, inputs: Tensor, h: Tensor) -> Tensor:
        return torch.addmm(inputs, h, self.from_hidden.weight.t()).relu()


class LstmNeuralTalkDecoder(_NeuralTalk):
    """The state is (h, c), each (N, H)."""

    def __init__(self, vocabulary: Vocabulary, feature_size: int, options: NeuralTalkOptions) -> None:
        super().__init__(vocabulary, options)
        self.picture = nn.Linear(feature_size, options.embedding_size)
        self.lstm = nn.LSTM(options.embedding_size, options.hidden_size, batch_first=True)

    def init(self, encoded: Encoded) -> State:
        """mean (B, D) → h and c after the image, each (B, H)."""
        image = self.dropout(self.picture(encoded.mean)).unsqueeze(1)  # (B, 1, E)
        _, (h, c) = self.lstm(image)
        return h.squeeze(0), c.squeeze(0)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (N,) → logits (N, V) and the next state."""
        logits, state = self._read(tokens.unsqueeze(1), state)
        return logits.squeeze(1), state

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → logits (C, T, V)."""
        return self._read(tokens, select(self.init(encoded), owner))[0]

    def _read(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = (tensor.unsqueeze(0) for tensor in state)  # (1, N, H)
        hidden, (h, c) = self.lstm(self.dropout(self.embedding(tokens)), (h, c))  # (N, T, H)
        return self.output(self.dropout(hidden)), (h.squeeze(0), c.squeeze(0))


CELLS: dict[str, type[RnnNeuralTalkDecoder] | type[LstmNeuralTalkDecoder]] = {
    "rnn": RnnNeuralTalkDecoder,
    "lstm": LstmNeuralTalkDecoder,
}


def build(vocabulary: Vocabulary, feature_size: int, **options: Any) -> Decoder:
    """The entry of the table of decoders: `options` are the fields of NeuralTalkOptions."""
    made = NeuralTalkOptions(**options)
    return CELLS[made.cell](vocabulary, feature_size, made)
