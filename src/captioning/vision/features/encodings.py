"""An encoder's output for rows of the feature store: read from it, or computed from its pixels.

B images, D feature width, R regions, S side in pixels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from captioning.system.errors import UserError
from captioning.vision.encoders.at_boxes import Places, at_boxes
from captioning.vision.encoders.encoded import Encoded, of_regions
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features.placement import to_device
from captioning.vision.features.store import FeatureStore

Encode = Callable[[np.ndarray], Encoded]
"""Rows of the feature store (B,) → the encoder's output for them."""


def stored_features(store: FeatureStore, rows: np.ndarray) -> tuple[Tensor, ...]:
    """A frozen encoder's output for `rows`, float16: mean (B, D) and, where they are stored, regions (B, R, D).

    Where the regions are those of objects, `Places` follow; where tags are words, tags (B, L) alone. With
    captions of neighbours, mean and regions are as of `widened`.
    """
    arrays = (store.means, store.regions)
    stored = tuple(torch.as_tensor(array[rows]) for array in arrays if array is not None)
    return (*_with_neighbours(store, stored, rows), *_places_or_tags(store, rows))


def _places(store: FeatureStore, rows: np.ndarray, mirrored: np.ndarray | None = None) -> tuple[Tensor, ...]:
    """`Places` of rows (B,), on the CPU; nothing without objects."""
    return () if store.places is None else store.places.of(rows, mirrored)


def _places_or_tags(store: FeatureStore, rows: np.ndarray, mirrored: np.ndarray | None = None) -> tuple[Tensor, ...]:
    """What is read beside features of rows (B,), on the CPU: `Places`, or tags (B, L) that are words, or nothing."""
    if store.tags is None:
        return _places(store, rows, mirrored)
    return (torch.from_numpy(store.tags[_views(rows, mirrored), rows]),)


def _views(rows: np.ndarray, mirrored: np.ndarray | None) -> np.ndarray:
    """For each of rows (B,): 0, or 1 for the mirrored image."""
    return np.zeros(len(rows), dtype=int) if mirrored is None else mirrored.astype(int)


def _with_neighbours(
    store: FeatureStore, features: tuple[Tensor, ...], rows: np.ndarray, mirrored: np.ndarray | None = None
) -> tuple[Tensor, ...]:
    """Features of rows (B,), with what captions of neighbours say, if that is read."""
    if store.neighbours is None:
        return features
    found = torch.from_numpy(store.neighbours[_views(rows, mirrored), rows])
    mean, regions, *_ = widened(Encoded(*features), found.to(features[0].device))
    return (mean,) if regions is None else (mean, regions)


def drawn_features(store: FeatureStore, rows: np.ndarray, mirrored: np.ndarray) -> tuple[Tensor, ...]:
    """As `stored_features`, but the output for the mirrored image where mirrored (B,) is true."""
    order = torch.from_numpy(np.argsort(np.argsort(mirrored, kind="stable")))  # (B,) where rows are, the upright first
    pairs = ((store.means, store.mirrored_means), (store.regions, store.mirrored_regions))
    drawn = tuple(
        torch.cat([torch.as_tensor(upright[rows[~mirrored]]), torch.as_tensor(twin[rows[mirrored]])])[order]
        for upright, twin in pairs
        if upright is not None and twin is not None
    )
    return (*_with_neighbours(store, drawn, rows, mirrored), *_places_or_tags(store, rows, mirrored))


def widened(encoded: Encoded, found: Tensor) -> Encoded:
    """An encoder's output, and what was found of each image (B, E) → vectors of D + E numbers.

    `found` is behind the mean, and one more region, whose first D numbers are zero; the last E of the others are. So a
    linear map of regions is two, one of the grid and one of what was found.
    """
    width, more, regions = encoded.mean.shape[1], found.shape[1], encoded.regions
    beside = functional.pad(found, (width, 0))  # (B, D + E); a sum of two, since autocast joins no halves
    mean = functional.pad(encoded.mean, (0, more)) + beside
    if regions is not None:
        last = functional.pad(beside.unsqueeze(1), (0, 0, regions.shape[1], 0))  # (B, R + 1, D + E)
        regions = functional.pad(regions, (0, more, 0, 1)) + last
    return encoded._replace(mean=mean, regions=regions)


def stored_pixels(store: FeatureStore, rows: np.ndarray, mirrored: np.ndarray | None = None) -> tuple[Tensor, ...]:
    """The pixels of `rows`, uint8 (B, 3, S, S), and `Places` where there are objects.

    mirrored: the places are those of the mirrored images; the pixels are as they are.
    """
    assert store.pixels is not None
    return (torch.as_tensor(store.pixels[rows]), *_places(store, rows, mirrored))


def encode_features(inputs: tuple[Tensor, ...]) -> Encoded:
    """Stored features, and perhaps `Places` or tags alone, are what a decoder reads: the last fields of `Encoded`."""
    (mean, *regions), beside = (tensor.float() for tensor in inputs[:2]), inputs[2:]
    names = Encoded._fields[len(Encoded._fields) - len(beside) :]
    return Encoded(mean, regions[0] if regions else None)._replace(**dict(zip(names, beside, strict=True)))


def encode_pixels(encoder: Encoder, inputs: tuple[Tensor, ...]) -> Encoded:
    """Pixels, and perhaps `Places` → regions (B, R, D), of the grid or of the places, and a mean (B, D)."""
    return placed(encoder, of_regions(encoder(inputs[0])), inputs[1:])


def placed(encoder: Encoder, encoded: Encoded, places: tuple[Tensor, ...]) -> Encoded:
    """The output of an encoder over its grid → at these places, if there are any."""
    if not places:
        return encoded
    assert encoder.grid is not None
    return at_boxes(encoded, encoder.grid, Places(*places))


def stored_encoder(store: FeatureStore, encoder: Encoder, device: torch.device) -> Encode:
    """The output of `encoder` for the store's rows: read from the store if it was frozen, else computed from pixels.

    The encoder and what comes out of it are on `device`.
    """
    if store.pixels is None:
        return lambda rows: encode_features(to_device(stored_features(store, rows), device))
    return lambda rows: encode_pixels(encoder, to_device(stored_pixels(store, rows), device))


def mirrored_encoder(store: FeatureStore, encoder: Encoder, device: torch.device) -> Encode:
    """As `stored_encoder`, of the mirrored images. Raises UserError where a store of features has none of them."""
    if store.pixels is not None:
        return lambda rows: _encode_mirrored(
            encoder, to_device(stored_pixels(store, rows, np.ones(len(rows), bool)), device)
        )
    if store.mirrored_means is None:
        raise UserError(
            "evaluate.mirror = true reads mirrored images too, and data/features has none; "
            "write features.mirror: true, or evaluate.mirror: false"
        )
    return lambda rows: encode_features(to_device(drawn_features(store, rows, np.ones(len(rows), bool)), device))


def _encode_mirrored(encoder: Encoder, inputs: tuple[Tensor, ...]) -> Encoded:
    return encode_pixels(encoder, (*mirrored_pixels(inputs[:1]), *inputs[1:]))


def mirrored_pixels(pixels: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Pixels (B, 3, S, S) for each of several encoders → the same, with left and right exchanged."""
    return tuple(own.flip(3) for own in pixels)
