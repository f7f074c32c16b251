"""What pretraining reads of a step: captions beside tags, some pieces of both hidden, and whether they belong together.

Which pieces are hidden is BERT's rule (Devlin et al. 2019, section 3.1), over captions and tags as in Oscar (Li et al.
2020), in pairs that do not belong together too. Whether they do is Oscar+'s three-way contrast (Zhang et al. 2021).

C captions, T tokens, G tags, K hidden pieces, N images of the store, V pieces.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import Vocabulary
from captioning.system.errors import UserError

HIDDEN = 0.15  # of the pieces of captions and tags
MASKED, REPLACED = 0.8, 0.1  # of the hidden ones: `[MASK]`, and any piece in their place; the others stay as they are
CLASSES = 3
MATCHED, OTHER_TAGS, OTHER_CAPTION = range(CLASSES)
_SHARES = np.cumsum([0.5, 0.25, 0.25])
_SHARES_WITHOUT_TAGS = np.cumsum([0.5, 0.0, 0.5])


class Pairs(NamedTuple):
    """Captions `<bos> … <eos>` and tags, padded, as they are read: V stands for `[MASK]`."""

    tokens: Tensor  # (C, T)
    tags: Tensor  # (C, G)
    places: Tensor  # (K,) of the hidden pieces, counted over (C, T + G)
    pieces: Tensor  # (K,) what was there
    classes: Tensor  # (C,)


class _Pair(NamedTuple):
    """One of them, without padding: L = T + G."""

    ids: np.ndarray  # (L,)
    hidden: np.ndarray  # (L,), bool
    read: np.ndarray  # (L,): `ids`, where hidden ones are changed
    length: int  # T
    kind: int


class Pairing:
    """Draws pairs for captions, from `seed`, an epoch and the caption: the same ones in whatever step and process.

    tags: tokens of those of each image of the store, (N, G); None: no image has any. Then half of the pairs have a
    caption of another image: the class of other tags would be the same pairs as the matched ones. Which image is the
    other one is drawn as in Oscar, of all with captions; that its tags, or its caption, are others too is not asked.
    """

    def __init__(self, captions: EncodedCaptions, tags: np.ndarray | None, vocabulary: Vocabulary, seed: int) -> None:
        self._captions, self._seed, self._vocabulary = captions, seed, vocabulary
        self._tags = None if tags is None or not tags.shape[1] else tags
        self._order = np.argsort(captions.image, kind="stable")  # captions of an image side by side
        self._sorted = captions.image[self._order]
        self._pieces = np.setdiff1d(np.arange(len(vocabulary)), vocabulary.special)

    def drawn(self, numbers: np.ndarray, epoch: int) -> Pairs:
        """Pairs for the captions of these numbers (C,), half of them matched, as an epoch has them."""
        return self._together([self._pair(number, epoch, contrast=True) for number in numbers.tolist()])

    def matched(self, numbers: np.ndarray) -> Pairs:
        """All of them with their own tags, always with the same pieces hidden: what is validated."""
        return self._together([self._pair(number, 0, contrast=False) for number in numbers.tolist()])

    def _pair(self, number: int, epoch: int, *, contrast: bool) -> _Pair:
        generator = np.random.default_rng((self._seed, epoch, 1 + number))
        kind, caption, image = MATCHED, number, int(self._captions.image[number])
        if contrast:
            shares = _SHARES_WITHOUT_TAGS if self._tags is None else _SHARES
            kind, other = int(np.searchsorted(shares, generator.random(), side="right")), self._other(image, generator)
            caption = other if kind == OTHER_CAPTION else caption
            image = int(self._captions.image[other]) if kind == OTHER_TAGS else image
        words = self._captions.caption(caption)
        ids = np.concatenate([words, self._tags_of(image)]).astype(np.int64)
        return self._hide(ids, len(words), kind, generator)

    def _other(self, image: int, generator: np.random.Generator) -> int:
        """A caption of another image; all are as likely."""
        begin, end = np.searchsorted(self._sorted, [image, image + 1])
        left = len(self._order) - (end - begin)
        if not left:
            raise UserError("pretraining compares captions of several images, and there is one; write epochs: 0")
        drawn = generator.integers(left)
        return int(self._order[drawn if drawn < begin else drawn + end - begin])

    def _tags_of(self, image: int) -> np.ndarray:
        if self._tags is None:
            return np.empty(0, dtype=np.int64)
        tags: np.ndarray = self._tags[image][self._tags[image] != self._vocabulary.special.pad]
        return tags

    def _hide(self, ids: np.ndarray, length: int, kind: int, generator: np.random.Generator) -> _Pair:
        """Hide some of the pieces; those that are no words stay."""
        chance, how = generator.random((2, len(ids)))
        anything = self._pieces[generator.integers(len(self._pieces), size=len(ids))]
        hidden = (chance < HIDDEN) & ~np.isin(ids, self._vocabulary.special)
        change = np.where(how < MASKED, len(self._vocabulary), np.where(how < MASKED + REPLACED, anything, ids))
        return _Pair(ids, hidden, np.where(hidden, change, ids), length, kind)

    def _together(self, pairs: list[_Pair]) -> Pairs:
        """Pairs, padded."""
        width = max(pair.length for pair in pairs)
        more = max(len(pair.ids) - pair.length for pair in pairs)
        read = np.full((len(pairs), width + more), self._vocabulary.special.pad, dtype=np.int64)
        places, pieces = [], []
        for row, pair in enumerate(pairs):
            at = np.arange(len(pair.ids)) + (np.arange(len(pair.ids)) >= pair.length) * (width - pair.length)
            read[row, at] = pair.read
            places.append(row * read.shape[1] + at[pair.hidden])
            pieces.append(pair.ids[pair.hidden])
        text = torch.from_numpy(read)
        kinds = torch.tensor([pair.kind for pair in pairs])
        return Pairs(
            text[:, :width],
            text[:, width:],
            torch.from_numpy(np.concatenate(places)),
            torch.from_numpy(np.concatenate(pieces)),
            kinds,
        )
