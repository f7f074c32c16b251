"""Tags from words: a classifier is fitted to a frozen encoder's features before the decoder that reads tags is trained.

A ridge regression from an image's mean to whether each word is in a caption of it (word presence, as in Fang et al.
2015, section 3, who train networks). What it predicts is the probability, as least squares estimates it.

It is cross-fitted: the tags of a training image come from a regression which did not see its captions, so the decoder
is trained on tags that are as good as those of new images. Sums over some images are those over all, less those over
the others, so each further regression costs one solution of D equations.

N images of the store, T training images, D feature width, K words, L tokens of tags.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from captioning.data.objects.words import WordTagger, chosen, token_rows
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.function_words import FUNCTION_WORDS
from captioning.data.text.vocabulary import Vocabulary
from captioning.training import word_scores
from captioning.vision.features.store import FeatureStore, Sharded

WORDS = 300  # the commonest ones of captions
FOLDS = 5
PENALTIES = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0)  # of the regression; other folds decide
_ROWS = 4096  # means in double precision at a time
_LEAST = 1e-6  # of a variance: dead features of an encoder have none
_FREE = 1e-9  # penalty of the bias, against a fold that is all there is


class Fitted(NamedTuple):
    """The classifier of all training images, and the tags of all images of the store."""

    tagger: WordTagger
    tags: np.ndarray  # (1 or 2, N, L): as `FeatureStore.tags`


def fit(store: FeatureStore, train: EncodedCaptions, val: EncodedCaptions, vocabulary: Vocabulary) -> Fitted:
    """Fit the classifier to the training captions. The same data give the same bytes.

    Tags of training images are cross-fitted, those of the others come from the classifier of all training images.
    val: has no part but in the scores.
    """
    means = store.means
    assert means is not None
    captions, unseen = captions_of_images(train, vocabulary), captions_of_images(val, vocabulary)
    words, rows = common_words(captions), np.array(sorted(captions))
    truth = presence(captions, words)
    folds = sums_of_folds(means, rows, truth)
    whole = reduce(Sums.plus, folds)
    others = [whole.less(fold) for fold in folds]
    penalty = best_penalty(folds, others)
    taggers = [_tagger(sums.solved(penalty), words) for sums in (whole, *others)]
    asked = np.zeros(len(store.ids), dtype=int)  # (N,): the number of the tagger of each image
    asked[rows] = 1 + fold_numbers(len(rows))
    likely = _likely(means, taggers, asked)  # (N, K)
    scores = {
        "train": word_scores.measure(likely[rows], truth),
        "val": word_scores.measure(likely[sorted(unseen)], presence(unseen, words)),
        "floor": word_scores.measure(truth.double().mean(0).expand(len(unseen), -1), presence(unseen, words)),
    }
    taggers[0].record.update(images=len(rows), folds=FOLDS, penalty=penalty, scores=scores)
    return Fitted(taggers[0], _tags(store, taggers, asked, likely, vocabulary))


def captions_of_images(captions: EncodedCaptions, vocabulary: Vocabulary) -> dict[int, set[str]]:
    """Row of the store → the words of the image's captions."""
    words: dict[int, set[str]] = {}
    for index, row in enumerate(captions.image.tolist()):
        spans = vocabulary.spans(captions.caption(index).tolist())
        words.setdefault(row, set()).update(word for word, _ in spans if word not in vocabulary.names)
    return words


def common_words(captions: Mapping[int, set[str]]) -> list[str]:
    """The content words that captions of most images have, at most WORDS, commonest first."""
    counts = Counter(word for words in captions.values() for word in words if _says_something(word))
    return sorted(counts, key=lambda word: (-counts[word], word))[:WORDS]


def _says_something(word: str) -> bool:
    return word not in FUNCTION_WORDS and any(letter.isalpha() for letter in word)


def presence(captions: Mapping[int, set[str]], words: Sequence[str]) -> Tensor:
    """Which words each image's captions have, by row of the store: bool (T, K)."""
    has = [[word in captions[row] for word in words] for row in sorted(captions)]
    return torch.tensor(has, dtype=torch.bool).view(len(captions), len(words))


class Sums(NamedTuple):
    """What a regression needs to know of its images; an image's inputs are its mean, and 1 for the bias."""

    gram: Tensor  # (D + 1, D + 1): products of inputs
    cross: Tensor  # (D + 1, K): products of inputs and presence
    present: Tensor  # (): how many words are present, over all images

    def plus(self, other: "Sums") -> "Sums":
        """Of the images of both."""
        return Sums(*(ours + theirs for ours, theirs in zip(self, other, strict=True)))

    def less(self, other: "Sums") -> "Sums":
        """Of these images without the others, which are among them."""
        return Sums(*(ours - theirs for ours, theirs in zip(self, other, strict=True)))

    def solved(self, penalty: float) -> Tensor:
        """The regression: weights, and the bias as the last row, (D + 1, K).

        Each weight is penalised as if its feature had a variance of 1. The bias is not.
        """
        images = self.gram[-1, -1].clamp(min=1.0)
        variance = self.gram.diagonal() / images - (self.gram[-1] / images) ** 2
        strength = penalty * variance.clamp(min=_LEAST)
        strength[-1] = _FREE
        solution: Tensor = torch.linalg.solve(self.gram + strength.diag(), self.cross)
        return solution

    def error(self, solution: Tensor) -> float:
        """The squared error of a regression on these images, summed over images and words."""
        fitted = (solution * (self.gram @ solution)).sum() - 2 * (solution * self.cross).sum()
        return float(fitted + self.present)


def fold_numbers(images: int) -> np.ndarray:
    """The fold of each training image, in the order of the store: (T,)."""
    return np.arange(images) % FOLDS


def sums_of_folds(means: Sharded, rows: np.ndarray, truth: Tensor) -> list[Sums]:
    """Of the images of each fold. rows (T,): of the store. truth: bool (T, K)."""
    fold = fold_numbers(len(rows))
    return [_sums(means, rows[fold == number], truth[torch.from_numpy(fold == number)]) for number in range(FOLDS)]


def _sums(means: Sharded, rows: np.ndarray, truth: Tensor) -> Sums:
    size = means.shape[1] + 1
    gram, cross = torch.zeros(size, size, dtype=torch.double), torch.zeros(size, truth.shape[1], dtype=torch.double)
    for start in range(0, len(rows), _ROWS):
        some = torch.from_numpy(means[rows[start : start + _ROWS]]).double()
        inputs = torch.cat([some, some.new_ones(len(some), 1)], dim=1)
        gram += inputs.T @ inputs
        cross += inputs.T @ truth[start : start + _ROWS].double()
    return Sums(gram, cross, truth.sum().double())


def best_penalty(folds: Sequence[Sums], others: Sequence[Sums]) -> float:
    """The one with the least error on each fold of the regression over the others."""

    def error(penalty: float) -> float:
        return sum(fold.error(rest.solved(penalty)) for fold, rest in zip(folds, others, strict=True))

    return min(PENALTIES, key=error)


def _tagger(solution: Tensor, words: Sequence[str]) -> WordTagger:
    return WordTagger(words, solution[:-1].float(), solution[-1].float(), {})


def _likely(means: Sharded, taggers: Sequence[WordTagger], asked: np.ndarray) -> Tensor:
    """How likely each word is of each image, by the tagger of the number in `asked` (N,): (N, K)."""
    likely = torch.zeros(len(asked), len(taggers[0].words), dtype=torch.double)
    for number, tagger in enumerate(taggers):
        own = np.flatnonzero(asked == number)
        for start in range(0, len(own), _ROWS):
            rows = own[start : start + _ROWS]
            likely[torch.from_numpy(rows)] = tagger.probabilities(torch.from_numpy(means[rows]))
    return likely


def _tags(
    store: FeatureStore, taggers: Sequence[WordTagger], asked: np.ndarray, likely: Tensor, vocabulary: Vocabulary
) -> np.ndarray:
    """Tokens of the tags of all images, and of the mirrored images if the store has them: (1 or 2, N, L)."""
    twins = store.mirrored_means
    views = [likely] if twins is None else [likely, _likely(twins, taggers, asked)]
    listed = [words for view in views for words in chosen(view, taggers[0].words)]
    return token_rows(listed, vocabulary).reshape(len(views), len(asked), -1)
