"""The image as the first word of an LSTM: Show and Tell, and the project's first baseline.

The image's feature is mapped to a word embedding, batch-normalised (yunjey's tutorial) or rectified (NeuralTalk2's
NIC), and read by the LSTM before `<bos>`; the LSTM's output at that step is not used (Vinyals et al. 2015, eq. 10-12).

B images, C captions, D feature width, E embedding, H hidden, L layers, T tokens, V words.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from captioning.data.text.vocabulary import Vocabulary
from captioning.decoders.base import Decoder, ImageNorm, State, select
from captioning.kernels.logits import WordLogits
from captioning.settings.decoders import LstmOptions
from captioning.vision.encoders.encoded import Encoded

_IMAGE_LAYERS: dict[str, Callable[[int], nn.Module]] = {"yunjey": ImageNorm, "nic": lambda _: nn.ReLU()}


class LstmDecoder(Decoder):
    """`init` reads the image, `step` reads a word. The state is (h, c), each (B, L, H)."""

    def __init__(self, vocabulary: Vocabulary, feature_size: int, options: LstmOptions) -> None:
        super().__init__(vocabulary)
        embedding, hidden = options.embedding_size, options.hidden_size
        layers, dropout = options.layers, options.dropout
        self.picture = nn.Sequential(nn.Linear(feature_size, embedding), _IMAGE_LAYERS[options.picture](embedding))
        self.embedding = nn.Embedding(len(vocabulary), embedding, padding_idx=vocabulary.special.pad)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout1d(dropout)
        self.output = WordLogits(hidden, len(vocabulary))

    def init(self, encoded: Encoded) -> State:
        """mean (B, D) → state after the image: h and c, each (B, L, H)."""
        image = self.picture(encoded.mean).unsqueeze(1)  # (B, 1, E)
        _, (h, c) = self.lstm(image)  # each (L, B, H)
        return h.transpose(0, 1), c.transpose(0, 1)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """tokens (B,) → logits (B, V) and the next state."""
        hidden, state = self._read(tokens.unsqueeze(1), state)  # (B, 1, H)
        return self.output(self._drop(hidden).squeeze(1)), state

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """tokens (C, T), owner (C,) → logits (C, T, V)."""
        hidden, _ = self._read(tokens, select(self.init(encoded), owner))  # (C, T, H)
        logits: Tensor = self.output(self._drop(hidden))
        return logits

    def _drop(self, sequence: Tensor) -> Tensor:
        """Dropout of whole channels: (C, T, E), the same ones at every step of a caption (Gal and Ghahramani 2016)."""
        dropped: Tensor = self.dropout(sequence.transpose(1, 2))
        return dropped.transpose(1, 2)

    def _read(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = (tensor.transpose(0, 1).contiguous() for tensor in state)  # (L, C, H)
        words = self._drop(self.embedding(tokens))  # (C, T, E)
        hidden, (h, c) = self.lstm(words, (h, c))
        return hidden, (h.transpose(0, 1), c.transpose(0, 1))


def build(vocabulary: Vocabulary, feature_size: int, **options: Any) -> LstmDecoder:
    """The entry of the table of decoders: `options` are the fields of LstmOptions."""
    return LstmDecoder(vocabulary, feature_size, LstmOptions(**options))
