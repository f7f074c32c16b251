"""What captions of the nearest training images say: found for all images before the decoder that reads it is trained.

It is cross-fitted, as in `word_tags`: what is found for a training image comes from a regression that did not see its
captions, and from images of the other folds. Otherwise it would find itself. Nor is a near-duplicate of it looked up.
So training reads what is as good as that of new images; the record has how near the neighbours of both are.

B images, N images of the store, T training images, D feature width, E width of what is found, K neighbours, S width of
the space of captions.
"""

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
from captioning.vision.features.store import FeatureStore

ALIKE = 0.95  # cosine of two standardised features from which on images are near-duplicates (docs/objects.md)
_ROWS = 256  # images at a time
_DIGITS = 4


class Fitted(NamedTuple):
    """The retrieval of all training images, and what is found for all images of the store."""

    retrieval: Retrieval
    found: np.ndarray  # (1 or 2, N, E) float16: as `FeatureStore.neighbours`


def fit(store: FeatureStore, train: EncodedCaptions, val_rows: np.ndarray, vocabulary: Vocabulary) -> Fitted:
    """Fit the retrieval to the training captions. The same data give the same bytes.

    What is found for training images is cross-fitted, what is found for others comes from all training images.
    val_rows: of the validation images, which have no part but in the record.
    """
    captions = batches.collate(train, np.arange(len(train)), vocabulary.special)
    rows, means = captions.rows, store.means
    assert means is not None
    said = image_means(captions.tokens[:, 1:], captions.owner, len(rows), caption_space.ORDER, vocabulary.special)
    places = caption_space.reduced(said, NeighboursOptions.dimensions)  # (T, S)
    features, fold = torch.from_numpy(means[rows]).float(), fold_numbers(len(rows))
    asked = np.zeros(len(store.ids), dtype=int)  # (N,): the number of the search of each image
    asked[rows] = 1 + fold
    views = [means] if store.mirrored_means is None else [means, store.mirrored_means]
    found = np.zeros((len(views), len(asked), 2 * places.shape[1]), dtype=np.float16)
    cosines = np.zeros(len(asked))  # (N,): of each image and its neighbours, their mean
    whole = _search(features, places)
    for number, kept in enumerate(_kept(fold)):  # one at a time: each has a copy of its images' features
        search = _search(features[kept], places[kept]) if number else whole
        for some in _batches(np.flatnonzero(asked == number)):
            seen = [torch.from_numpy(view[some]) for view in views]
            near = [search.near(view, duplicates_of=seen[0] if number else None) for view in seen]
            found[:, some] = [search.retrieval.joined(*one).numpy() for one in near]
            cosines[some] = _mean_cosine(near[0][1])
    similarity = {name: round(float(cosines[of].mean()), _DIGITS) for name, of in (("train", rows), ("val", val_rows))}
    whole.retrieval.record.update(images=len(rows), similarity=similarity)
    return Fitted(whole.retrieval, found)


class Search(NamedTuple):
    """What finds some of the training images."""

    retrieval: Retrieval
    features: Tensor  # (T, D): of these images, standardised, of length 1

    def near(self, means: Tensor, *, duplicates_of: Tensor | None) -> tuple[Tensor, Near]:
        """Means (B, D) → their places in the space (B, S), and their neighbours.

        duplicates_of (B, D): near-duplicates of these do not count; None: all count.
        """
        places = self.retrieval.place(means)
        near = self.retrieval.near(places)
        if duplicates_of is None:
            return places, near
        own = _standardised(self.retrieval.space, duplicates_of.float())  # (B, D)
        alike = (self.features[near.rows] @ own.unsqueeze(2)).squeeze(2) >= ALIKE  # (B, K)
        return places, near._replace(similarity=near.similarity.masked_fill(alike, -torch.inf))


def _kept(fold: np.ndarray) -> list[Tensor]:
    """Which training images (T,) each search has: all; then those of all folds but one, all where there are none."""
    others = [torch.from_numpy(fold != number) for number in range(FOLDS)]
    everything = torch.ones(len(fold), dtype=torch.bool)
    return [everything, *(kept if kept.any() else everything for kept in others)]


def _search(features: Tensor, places: Tensor) -> Search:
    """Features (T, D) of some training images, and places of their captions (T, S)."""
    space = caption_space.fit(features, places, NeighboursOptions.ridge)
    return Search(Retrieval(space, space.place(features), places, {}), _standardised(space, features))


def _standardised(space: CaptionSpace, features: Tensor) -> Tensor:
    """Features (B, D) → the same with a mean of 0 and a deviation of 1, and then of length 1."""
    return functional.normalize((features - space.mean.float()) / space.deviation.float(), dim=1)


def _mean_cosine(near: Near) -> np.ndarray:
    """Of each image and those neighbours that count: (B,); 0 where none does."""
    counts = near.similarity.isfinite()
    mean = near.similarity.masked_fill(~counts, 0.0).sum(1) / counts.sum(1).clamp(min=1)
    return mean.numpy()


def _batches(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
