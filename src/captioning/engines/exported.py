"""An exported model in memory: the graphs of its networks behind the interfaces of a trained one.

B images, K statistics of an image, N hypotheses (some of each image, side by side), S side in pixels, V words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from captioning.captioner.cards import Card
from captioning.captioner.confidence import Calibration
from captioning.data.runtimes.registry import Graph
from captioning.data.text.vocabulary import Vocabulary
from captioning.search import Speaker
from captioning.search.arrays import Array, State
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.features.unlikeness import KeptStatistics
from captioning.vision.images import Transform

if TYPE_CHECKING:
    from captioning.vision.encoders.at_boxes import Places


class GraphDecoder:
    """`init` and `step` of a decoder, as graphs. `shared`: see `Decoder.shared`."""

    def __init__(self, vocabulary: Vocabulary, shared: int, init: Graph, step: Graph) -> None:
        self.vocabulary, self.shared = vocabulary, shared
        self._init, self._step = init, step

    def init(self, encoded: Encoded) -> State:
        """The state before the first word, one an image."""
        return tuple(self._init([encoded.mean, encoded.regions]))  # type: ignore[list-item]

    def step(self, tokens: Array, state: State) -> tuple[Array, State]:
        """tokens (N,) → logits of the next word (N, V) and the state after it.

        The graph reads them by image, (B, N / B): so it knows which hypotheses share what is of an image.
        """
        size = len(state) - self.shared
        own, shared = state[:size], state[size:]
        images = len(shared[0]) if shared else len(tokens)
        grouped = [part.reshape(images, len(tokens) // images, *part.shape[1:]) for part in (tokens, *own)]
        logits, *after = self._step([*grouped, *shared])
        return logits, (*after, *shared)


@dataclass(frozen=True)
class Exported:
    """See `captioner.several.Member`. graphs: `encoder`, and `statistics` where the model keeps any."""

    card: Card
    transform: Transform
    vocabulary: Vocabulary
    decoder: Speaker[Encoded]
    graphs: Mapping[str, Graph]
    statistics: KeptStatistics | None
    calibration: Calibration | None

    def encode(self, pixels: np.ndarray, places: "Places | None" = None) -> Encoded:
        """uint8 pixels (B, 3, S, S) → what the decoder reads of them. No exported model reads objects."""
        assert places is None
        mean, regions = self.graphs["encoder"]([pixels])
        return Encoded(mean, regions)  # type: ignore[arg-type]

    def measure(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 pixels (B, 3, S, S) → their statistics (B, K)."""
        return self.graphs["statistics"]([pixels])[0]
