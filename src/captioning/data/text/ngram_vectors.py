"""tf-idf vectors of captions, on tensors: by these, images and captions are compared where neighbours are looked up.

`captioning.metrics.tfidf` has those of CIDEr, with its clipping and its penalty on length.

C captions, E entries (a kind of n-gram in a caption), G kinds of n-gram, I images, K captions of a choice, T tokens.
"""

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


def image_means(tokens: Tensor, owner: Tensor, images: int, longest: int, special: Special) -> Tensor:
    """The mean of the vectors of each image's captions, over all n-grams up to `longest`: sparse (I, G).

    Arguments as in `vectors`.
    """
    weight = 1.0 / torch.bincount(owner, minlength=images).clamp(min=1)
    places, values, kinds = [], [], 0
    for order in range(1, longest + 1):
        caption, kind, value, more = vectors(tokens, owner, images, order, special)
        image = owner[caption].long()
        places.append(torch.stack([image, kind + kinds]))
        values.append(value * weight[image])
        kinds += more
    size = (images, kinds)
    return torch.sparse_coo_tensor(torch.cat(places, 1), torch.cat(values), size, check_invariants=False).coalesce()


class NgramVectors:
    """The vectors of C captions, by which any few of them are compared. Arguments as in `image_means`."""

    def __init__(self, tokens: Tensor, owner: Tensor, images: int, longest: int, special: Special) -> None:
        orders = range(1, longest + 1)
        self._orders = [vectors(tokens, owner, images, order, special) for order in orders]
        counts = [torch.bincount(found.caption, minlength=len(tokens)) for found in self._orders]
        self._counts, self._ends = counts, [count.cumsum(0) for count in counts]

    def likeness(self, rows: Tensor) -> Tensor:
        """The cosine of each two of the captions `rows` (K,), the mean over the orders of n-grams: (K, K)."""
        products = [self._products(order, rows) for order in range(len(self._orders))]
        return torch.stack(products).mean(0)

    def _products(self, order: int, rows: Tensor) -> Tensor:
        """Captions (K,) → the scalar products of their vectors of one order, (K, K)."""
        entries, counts, ends = self._orders[order], self._counts[order][rows], self._ends[order][rows]
        row = torch.repeat_interleave(counts)  # of each entry of the choice
        entry = torch.arange(len(row), device=row.device) + (ends - counts.cumsum(0))[row]
        known, column = torch.unique(entries.kind[entry], return_inverse=True)
        dense = torch.zeros(len(rows), len(known), device=row.device)
        dense[row, column] = entries.value[entry]
        return dense @ dense.T
