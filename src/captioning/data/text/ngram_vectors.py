"""tf-idf vectors of captions, on tensors: by these, images and captions are compared where neighbours are looked up.

`captioning.metrics.tfidf` has those of CIDEr, with its clipping and its penalty on length.

C captions, E entries (a kind of n-gram in a caption), G kinds of n-gram, I images, K captions of a choice, T tokens.
"""

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from captioning.data.text.vocabulary import Special


class Vectors(NamedTuple):
    """Captions as vectors of length 1 over the n-grams of one order, entry by entry, in the order of the captions.

    A caption without an n-gram of this order has no entries. kinds: how many n-grams there are.
    """

    caption: Tensor  # (E,)
    kind: Tensor  # (E,)
    value: Tensor  # (E,)
    kinds: int


def vectors(tokens: Tensor, owner: Tensor, images: int, order: int, special: Special) -> Vectors:
    """Captions (C, T), with `<eos>` and padding but without `<bos>` → their n-grams, count times idf, of length 1.

    owner (C,) in 0 … images − 1. An n-gram that holds `<unk>` is left out. idf: log(images / how many have the n-gram).
    """
    apart = torch.tensor([special.pad, special.eos, special.unk], device=tokens.device)
    inside = torch.isin(tokens, apart, invert=True).unfold(1, order, 1).all(2)  # (C, T − order + 1)
    found, kind = torch.unique(tokens.unfold(1, order, 1)[inside], dim=0, return_inverse=True)
    kinds = len(found)
    cells, times = torch.unique(inside.nonzero()[:, 0] * kinds + kind, return_counts=True)
    caption, kind = cells // kinds, cells % kinds
    frequency = torch.bincount(torch.unique(kind * images + owner[caption]) // images, minlength=kinds)
    value = times * torch.log(images / frequency)[kind]
    norms = torch.zeros(len(tokens), device=value.device).index_add_(0, caption, value**2).sqrt()
    return Vectors(caption, kind, value / norms.clamp(min=1e-12)[caption], kinds)


def joined(tokens: Tensor, owner: Tensor, images: int, longest: int, special: Special) -> Vectors:
    """`vectors` of all orders up to `longest`, side by side: a caption's have length 1 for each order that it has.

    Entries are in the order of the captions.
    """
    orders = [vectors(tokens, owner, images, order, special) for order in range(1, longest + 1)]
    kinds = [0, *accumulate(found.kinds for found in orders)]
    caption, value = torch.cat([found.caption for found in orders]), torch.cat([found.value for found in orders])
    kind = torch.cat([found.kind + first for found, first in zip(orders, kinds, strict=False)])
    order = caption.argsort(stable=True)
    return Vectors(caption[order], kind[order], value[order], kinds[-1])


def image_means(tokens: Tensor, owner: Tensor, images: int, longest: int, special: Special) -> Tensor:
    """The mean of the vectors of each image's captions, over all n-grams up to `longest`: sparse (I, G).

    Arguments as in `vectors`.
    """
    caption, kind, value, kinds = joined(tokens, owner, images, longest, special)
    image = owner[caption].long()
    each = torch.bincount(owner, minlength=images).clamp(min=1)[image]
    size = (images, kinds)
    return torch.sparse_coo_tensor(torch.stack([image, kind]), value / each, size, check_invariants=False).coalesce()


class NgramVectors:
    """The vectors of C captions, by which any few of them are compared. Arguments as in `vectors`."""

    def __init__(self, tokens: Tensor, owner: Tensor, images: int, longest: int, special: Special) -> None:
        self._entries, self._orders = joined(tokens, owner, images, longest, special), longest
        self._counts = torch.bincount(self._entries.caption, minlength=len(tokens))
        self._ends = self._counts.cumsum(0)

    def similarity(self, rows: Tensor) -> Tensor:
        """The cosine of each two of the captions `rows` (K,), the mean over the orders of n-grams: (K, K).

        An n-gram that only one of them has counts for none but itself, and is left out: the diagonal has no meaning.
        """
        counts, ends = self._counts[rows], self._ends[rows]
        row = torch.repeat_interleave(counts)  # of each entry of the choice
        entry = torch.arange(len(row), device=row.device) + (ends - counts.cumsum(0))[row]
        _, column, times = torch.unique(self._entries.kind[entry], return_inverse=True, return_counts=True)
        shared = times > 1
        place, known = (shared.cumsum(0) - 1)[column], shared[column]
        dense = torch.zeros(len(rows), int(shared.sum()), device=row.device)
        dense[row[known], place[known]] = self._entries.value[entry[known]]
        return dense @ dense.T / self._orders
