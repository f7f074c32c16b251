"""What captions of the nearest training images say: found for all images before the decoder that reads it is trained.

It is cross-fitted, as in `word_tags`: what is found for a training image comes from a regression that did not see its
captions, and from images of the other folds. Otherwise it would find itself. Nor is a near-duplicate of it looked up.
So training reads what is as good as that of new images; the record has how near the neighbours of both are.

B images, N images of the store, T training images, D feature width, E width of what is found, K neighbours, S width of
the space of captions.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from captioning.data.objects.retrieval import Near, Retrieval
from captioning.data.text import caption_space
from captioning.data.text.caption_space import CaptionSpace
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.ngram_vectors import image_means
from captioning.data.text.vocabulary import Vocabulary
from captioning.settings.decoders import NeighboursOptions
from captioning.training import batches
from captioning.training.word_tags import FOLDS, fold_numbers
from captioning.vision.features.store import FeatureStore, Sharded

SPACE = 2  # longest n-grams of the space, as in `decoders.neighbours`
ALIKE = 0.95  # cosine of two standardised features from which on images are near-duplicates (docs/objects.md)
_ROWS = 256  # images at a time
_DIGITS = 4


class Fitted(NamedTuple):
    """The retrieval of all training images, and what is found for all images of the store."""

    retrieval: Retrieval
    found: np.ndarray  # (1 or 2, N, E) float16: as `FeatureStore.found`


def fit(store: FeatureStore, train: EncodedCaptions, val_rows: np.ndarray, vocabulary: Vocabulary) -> Fitted:
    """Fit the retrieval to the training captions. The same data give the same bytes.

    What is found for training images is cross-fitted, what is found for others comes from all training images.
    val_rows: of the validation images, which have no part but in the record.
    """
    captions = batches.collate(train, np.arange(len(train)), vocabulary.special)
    rows, means = captions.rows, store.means
    assert means is not None
    said = image_means(captions.tokens[:, 1:], captions.owner, len(rows), SPACE, vocabulary.special)
    places = caption_space.reduced(said, NeighboursOptions.dimensions)  # (T, S)
    features, fold = torch.from_numpy(means[rows]).float(), fold_numbers(len(rows))
    searches = [_search(features, places, kept) for kept in _kept(fold)]
    asked = np.zeros(len(store.ids), dtype=int)  # (N,): the number of the search of each image
    asked[rows] = 1 + fold
    views = [means] if store.mirrored_means is None else [means, store.mirrored_means]
    found = np.stack([_found(view, searches, asked) for view in views])
    near = {name: _similarity(means, searches, some, asked) for name, some in (("train", rows), ("val", val_rows))}
    whole = searches[0].retrieval
    whole.record.update(images=len(rows), similarity=near)
    return Fitted(whole, found)


class Search(NamedTuple):
    """What finds some of the training images. Those of a fold are apart from the images that it is asked for."""

    retrieval: Retrieval
    features: Tensor  # (T, D): of these images, standardised, of length 1

    def near(self, means: Tensor, *, crossed: bool) -> tuple[Tensor, Near]:
        """Means (B, D) → their places in the space (B, S), and their neighbours.

        crossed: the images are of training, and near-duplicates do not count.
        """
        places = self.retrieval.place(means)
        near = self.retrieval.near(places)
        if not crossed:
            return places, near
        own = _standardised(self.retrieval.space, means.float())  # (B, D)
        alike = (self.features[near.rows] @ own.unsqueeze(2)).squeeze(2) >= ALIKE  # (B, K)
        return places, near._replace(similarity=near.similarity.masked_fill(alike, -torch.inf))


def _kept(fold: np.ndarray) -> list[Tensor]:
    """Which training images each search has: all, and those of all folds but one; all where there are no others."""
    others = [torch.from_numpy(fold != number) for number in range(FOLDS)]
    everything = torch.ones(len(fold), dtype=torch.bool)
    return [everything, *(kept if kept.any() else everything for kept in others)]


def _search(features: Tensor, places: Tensor, kept: Tensor) -> Search:
    """Features (T, D) of the training images, places of their captions (T, S), which images are kept (T,)."""
    space = caption_space.fit(features[kept], places[kept], NeighboursOptions.ridge)
    retrieval = Retrieval(space, space.place(features[kept]), places[kept], {})
    return Search(retrieval, _standardised(space, features[kept]))


def _standardised(space: CaptionSpace, features: Tensor) -> Tensor:
    """Features (B, D) → the same with a mean of 0 and a deviation of 1, and then of length 1."""
    return functional.normalize((features - space.mean.float()) / space.deviation.float(), dim=1)


def _found(means: Sharded, searches: Sequence[Search], asked: np.ndarray) -> np.ndarray:
    """What each image finds by the search of the number in `asked` (N,): float16 (N, E)."""
    found = np.zeros((len(asked), searches[0].retrieval.width), dtype=np.float16)
    for search, rows, crossed in _batches(searches, np.arange(len(asked)), asked):
        near = search.near(torch.from_numpy(means[rows]), crossed=crossed)
        found[rows] = search.retrieval.joined(*near).numpy()
    return found


def _similarity(means: Sharded, searches: Sequence[Search], rows: np.ndarray, asked: np.ndarray) -> float:
    """The mean cosine of images (B,) and the neighbours that count; 0 without any."""
    found = [
        search.near(torch.from_numpy(means[some]), crossed=crossed)[1].similarity.flatten()
        for search, some, crossed in _batches(searches, rows, asked)
    ]
    counted = [cosines[cosines.isfinite()] for cosines in found]
    return round(float(torch.cat(counted).mean().nan_to_num(0.0)), _DIGITS) if counted else 0.0


def _batches(
    searches: Sequence[Search], rows: np.ndarray, asked: np.ndarray
) -> Iterator[tuple[Search, np.ndarray, bool]]:
    """A few of `rows` at a time, the search that they ask, and whether they are cross-fitted."""
    for number, search in enumerate(searches):
        own = rows[asked[rows] == number]
        for start in range(0, len(own), _ROWS):
            yield search, own[start : start + _ROWS], number > 0
