"""The seam that every decoder shares: `init`, `step` and `forward`.

B images, C captions, R regions, D feature width, T tokens, V words.
"""

from typing import NamedTuple

from torch import Tensor, nn

State = tuple[Tensor, ...]
"""What a decoder carries from word to word: tensors whose first axis is the hypothesis."""


class Encoded(NamedTuple):
    """What the encoder says of B images."""

    mean: Tensor  # (B, D)
    regions: Tensor | None  # (B, R, D), absent where no decoder asks for it


class Decoder(nn.Module):
    """The signatures of a decoder; it does no work. `forward` and `step` unrolled give the same logits."""

    def init(self, encoded: Encoded) -> State:
        """The state before the first word, one a picture."""
        raise NotImplementedError

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one token (B,) each; return the logits of the next word (B, V) and the state after it."""
        raise NotImplementedError

    def forward(self, encoded: Encoded, tokens: Tensor, owner: Tensor) -> Tensor:
        """Teacher forcing: tokens (C, T) that start with `<bos>` → logits (C, T, V) of what follows each.

        `owner` (C,) is the row of each caption's image in `encoded`.
        """
        raise NotImplementedError


class WordLogits(nn.Linear):
    """Hidden states (…, H) → logits of V words (…, V).

    The matrix has rows for a multiple of 64 words: AVX2 kernels run up to twice as fast on it
    (`python -m benchmarks.logits`). What the rows beyond V say is cut off, so they are never trained.
    """

    def __init__(self, hidden_size: int, vocabulary_size: int) -> None:
        super().__init__(hidden_size, -(-vocabulary_size // 64) * 64)
        self.vocabulary_size = vocabulary_size

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, H) → (…, V)."""
        return super().forward(hidden)[..., : self.vocabulary_size]


def select(state: State, rows: Tensor) -> State:
    """The states of `rows` (N,), with repetition where an image or a beam has several hypotheses."""
    return tuple(tensor.index_select(0, rows) for tensor in state)
