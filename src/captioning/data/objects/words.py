"""Words of captions as tags: a linear classifier says which are likely, from the encoder's mean of an image alone.

Fang et al. 2015 ("From captions to visual concepts and back", section 3) detect words in parts of an image and write
captions of them. Here a word is of the whole image, as the attributes of Wu et al. 2016 are. There are no boxes. The
folder of each captioner that reads such tags has both files:

    words.json           the words, how the classifier was fitted, its scores, the digest of its weights; sealed
    words.safetensors    its weights

B images, D feature width, K words of the classifier, L tokens of an image's tags.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captioning.data.objects import kept
from captioning.data.objects.placing import TAGS
from captioning.data.text.vocabulary import Vocabulary
from captioning.system.errors import UserError
from captioning.vision.encoders.encoded import Encoded

NAME = "words"
FILES = CARD, WEIGHTS = kept.files(NAME)
SURE = 0.3  # least probability of a tag: see docs/objects.md
MOST = 10  # tags of an image


class WordTagger:
    """Means of images to words. It computes on the CPU, in double precision, whatever device the means are on."""

    def __init__(self, words: Sequence[str], weight: Tensor, bias: Tensor, record: Mapping[str, Any]) -> None:
        """words: K, commonest first. weight (D, K), bias (K,): float32. record: how it was fitted, and its scores."""
        self.words, self.weight, self.bias, self.record = tuple(words), weight, bias, dict(record)

    def probabilities(self, means: Tensor) -> Tensor:
        """Means (B, D) → how likely each word is in a caption of the image, (B, K), float64, on the CPU."""
        return (means.detach().cpu().double() @ self.weight.double() + self.bias.double()).clamp(0, 1)

    def tags(self, means: Tensor) -> list[list[str]]:
        """Means (B, D) → the words of each image, surest first."""
        return chosen(self.probabilities(means), self.words)

    @property
    def dim(self) -> int:
        """D."""
        return len(self.weight)

    @property
    def width(self) -> int:
        """How much wider its vectors make those of the encoder: tags have none."""
        return 0

    def added(self, encoded: Encoded, vocabulary: Vocabulary) -> Encoded:
        """An encoder's output, with the words as its tags."""
        tags = torch.from_numpy(token_rows(self.tags(encoded.mean), vocabulary))
        return encoded._replace(tags=tags.to(encoded.mean.device))


def chosen(probabilities: Tensor, words: Sequence[str]) -> list[list[str]]:
    """Probabilities (B, K) → the words of SURE and above, surest first, at most MOST; of equals the commoner first."""
    ranked = probabilities.sort(dim=1, descending=True, stable=True)
    sure = (ranked.values >= SURE).sum(1).clamp(max=MOST).tolist()
    return [[words[k] for k in row[:count]] for row, count in zip(ranked.indices.tolist(), sure, strict=True)]


def token_rows(tags: Sequence[Sequence[str]], vocabulary: Vocabulary) -> np.ndarray:
    """Tags of B images → their tokens in a row, padded with `<pad>`, int64 (B, L).

    A word may be several tokens. One that the vocabulary cannot spell is left out, and so is what is behind the last
    word that ends within TAGS tokens.
    """
    rows = [_tokens(words, vocabulary) for words in tags]
    padded = np.full((len(rows), max(map(len, rows), default=0)), vocabulary.special.pad, dtype=np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def _tokens(words: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    row: list[int] = []
    for word in words:
        tokens = vocabulary.encode([word])
        if len(row) + len(tokens) > TAGS:
            break
        row += [] if vocabulary.special.unk in tokens else tokens
    return row


def write(folder: Path, tagger: WordTagger) -> None:
    """Write both files into a folder that is there. The same classifier gives the same bytes."""
    record = {"words": tagger.words, **tagger.record}
    kept.write(folder, NAME, record, {"bias": tagger.bias, "weight": tagger.weight})


def read(folder: Path, remedy: str) -> WordTagger:
    """What `write` wrote. Raises UserError, which ends in `remedy`, for anything else."""
    record, tensors = kept.read(folder, NAME, remedy)
    words = record.pop("words")
    if tensors.keys() != {"bias", "weight"} or not tensors["weight"].shape[1:] == tensors["bias"].shape == (
        len(words),
    ):
        raise UserError(f"{folder / WEIGHTS}: no weights of {len(words)} words; {remedy}")
    return WordTagger(words, tensors["weight"], tensors["bias"], record)
