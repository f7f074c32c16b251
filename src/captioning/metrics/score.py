"""References prepared once, hypotheses scored against them as often as needed."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from captioning.data.text.tokenizer import tokenize
from captioning.metrics import bleu, ngrams
from captioning.metrics.cider import Cider
from captioning.metrics.rouge import rouge_l
from captioning.system.errors import UserError

Id = TypeVar("Id", bound=Hashable)
_EXAMPLES = 3


@dataclass(frozen=True)
class Scores(Generic[Id]):
    """Scores by name: one for the corpus, and one an image. `a | b` has the scores of both."""

    corpus: dict[str, float]
    per_image: dict[str, dict[Id, float]]

    def __or__(self, other: "Scores[Id]") -> "Scores[Id]":
        return Scores(self.corpus | other.corpus, self.per_image | other.per_image)


class References(Generic[Id]):
    """The references of a set of images, tokenised, counted and weighted once; `score` is then cheap.

    references: each image's captions, raw strings. CIDEr's idf comes from these references, so that its value depends
    on the whole set: one image alone always scores 0.
    Raises UserError when there is no image, or an image without references.
    """

    def __init__(self, references: Mapping[Id, Sequence[str]]) -> None:
        check_references(references)
        self._ids = list(references)
        self._tokens = [[tokenize(caption) for caption in captions] for captions in references.values()]
        sentences = [words for image in self._tokens for words in image]
        sizes = ngrams.lengths(self._tokens)
        self._first = np.cumsum(sizes) - sizes
        self._lengths = ngrams.lengths(sentences)
        self._ngrams = ngrams.Ngrams(sentences)
        self._cells = ngrams.Cells(self._ngrams, np.repeat(np.arange(len(sizes)), sizes))
        self._cider = Cider(self._ngrams, self._cells, self._lengths, self._first, sizes)

    def score(self, hypotheses: Mapping[Id, str]) -> Scores[Id]:
        """BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D, named bleu_1, ..., rouge_l, cider; all but CIDEr are within 0 to 1.

        hypotheses: one caption an image, a raw string; an empty one is legal and scores about 0.
        Raises UserError when the images are not those of the references.
        """
        tokens, counts, matches = self._match(hypotheses)
        statistics = self._bleu_statistics(tokens, matches)
        names = [f"bleu_{order + 1}" for order in range(ngrams.ORDERS)]
        columns: dict[str, Iterable[float]] = dict(zip(names, bleu.bleu(statistics).T.tolist(), strict=True))
        columns["rouge_l"] = map(rouge_l, tokens, self._tokens)
        columns["cider"] = self._cider.score(counts, ngrams.lengths(tokens), matches).tolist()
        per_image = {name: dict(zip(self._ids, values, strict=True)) for name, values in columns.items()}
        corpus = {name: math.fsum(values.values()) / len(values) for name, values in per_image.items()}
        corpus |= zip(names, bleu.bleu(statistics.sum(0)).tolist(), strict=True)
        return Scores(corpus, per_image)

    def bleu_statistics(self, hypotheses: Mapping[Id, str]) -> ngrams.Floats:
        """What BLEU needs of each image, in the references' order: (I, bleu.STATISTICS); `bleu.bleu` of a sum of rows
        is the corpus BLEU of those images.

        Raises UserError as `score` does.
        """
        tokens, _, matches = self._match(hypotheses)
        return self._bleu_statistics(tokens, matches)

    def _match(self, hypotheses: Mapping[Id, str]) -> tuple[list[list[str]], ngrams.Counts, ngrams.Ints]:
        """The hypotheses' words, their n-grams, and how often each n-gram of the references is among them: (C,)."""
        check_ids(self._ids, hypotheses)
        tokens = [tokenize(hypotheses[image]) for image in self._ids]
        counts = self._ngrams.count(tokens)
        return tokens, counts, self._cells.match(counts)

    def _bleu_statistics(self, tokens: Sequence[Sequence[str]], matches: ngrams.Ints) -> ngrams.Floats:
        cells, lengths = self._cells, ngrams.lengths(tokens)
        correct = ngrams.sums(cells.image, cells.order, np.minimum(matches, cells.most), len(self._ids))
        return bleu.statistics(correct, lengths, bleu.closest_lengths(lengths, self._lengths, self._first))


def score(references: Mapping[Id, Sequence[str]], hypotheses: Mapping[Id, str]) -> Scores[Id]:
    """Score one hypothesis an image against its references, as coco-caption does: see `References`."""
    return References(references).score(hypotheses)


def check_references(references: Mapping[Id, Sequence[str]]) -> None:
    """Raise UserError when there is no image, or an image whose references are not a list of captions."""
    if not references:
        raise UserError("there are no references to score against")
    for image, captions in references.items():
        if isinstance(captions, str) or not captions:
            raise UserError(f"references of image {image!r} are {captions!r}: give a list of at least one caption")


def check_ids(references: Iterable[Id], hypotheses: Iterable[Id]) -> None:
    """Raise UserError, with examples, unless both name the same images."""
    expected, actual = dict.fromkeys(references), dict.fromkeys(hypotheses)
    faults = [
        f"{len(images)} without {what}, such as {', '.join(map(repr, images[:_EXAMPLES]))}"
        for what, images in (
            ("a hypothesis", [image for image in expected if image not in actual]),
            ("references", [image for image in actual if image not in expected]),
        )
        if images
    ]
    if faults:
        raise UserError(f"references and hypotheses must name the same images: {'; '.join(faults)}")
