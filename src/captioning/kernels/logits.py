"""The output layer: a number of words that a CPU multiplies fast."""

from torch import Tensor, nn
from torch.nn import functional

from captioning import kernels

_ROWS = 64  # the matrix has a multiple of so many


class WordLogits(nn.Linear):
    """Hidden states (…, H) → logits of V words (…, V).

    The matrix has rows for a multiple of 64 words: AVX2 kernels run up to twice as fast on it
    (`python -m benchmarks.logits`). What the rows beyond V say is cut off, so they are never trained. The plain way has
    the same parameters, so that it reads the same model folders, and multiplies V rows of them.
    """

    def __init__(self, hidden_size: int, vocabulary_size: int) -> None:
        super().__init__(hidden_size, -(-vocabulary_size // _ROWS) * _ROWS)
        self.vocabulary_size = vocabulary_size

    def forward(self, hidden: Tensor) -> Tensor:
        """(…, H) → (…, V)."""
        words = self.vocabulary_size
        if kernels.plain():
            return functional.linear(hidden, self.weight[:words], self.bias[:words])
        return super().forward(hidden)[..., :words]
