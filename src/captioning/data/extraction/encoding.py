"""Pixels → rows of the feature store, by a frozen encoder.

B images a batch, R regions or boxes, D feature width, H, W rows and columns of the grid, S side in pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from threading import Semaphore

import numpy as np
import torch
from torch import Tensor

from captioning.system.errors import UserError
from captioning.vision.encoders import at_boxes
from captioning.vision.encoders.encoders import Encoder

Rows = dict[str, np.ndarray]
"""Arrays (B, …) by name: what is stored of B images."""


class Encode:
    """Pixels → rows of the store, called by several threads.

    On a CPU as many of them encode at once as torch may have threads, each a batch of its own: all threads on one batch
    wait for each other at every layer (`python -m benchmarks.features`). A GPU has one batch at a time.
    """

    def __init__(
        self,
        encoder: Encoder,
        keep: Sequence[str],
        batch_size: int,
        mirror: bool,
        boxes: Mapping[str, np.ndarray] | None,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._encoder, self._keep, self._batch_size = encoder, keep, batch_size
        self._mirror, self._boxes, self._autocast = mirror, boxes, autocast
        self._turns = Semaphore(torch.get_num_threads() if encoder.scale.device.type == "cpu" else 1)

    def __call__(self, pixels: np.ndarray, files: list[str]) -> Rows:
        """uint8 (B, 3, S, S) → their rows; those of the mirrored images have the prefix mirrored_.

        A batch that is not full is filled up: kernels are selected by shape, and no row may depend on how many others
        there are.
        """
        filled = np.zeros((self._batch_size, *pixels.shape[1:]), dtype=np.uint8)
        filled[: len(pixels)] = pixels
        rows: Rows = {}
        with self._turns, torch.inference_mode(), self._autocast():
            batch = torch.from_numpy(filled).to(self._encoder.scale.device)
            views = {"": batch, "mirrored_": batch.flip(3)} if self._mirror else {"": batch}
            for prefix, view in views.items():
                regions = self._encoder(view)[: len(files)]
                kept = {"means": regions.mean(1), "regions": self._at_boxes(regions, files, mirrored=bool(prefix))}
                rows |= {f"{prefix}{name}": half(kept[name], files, "choose another encoder") for name in self._keep}
        return rows

    def _at_boxes(self, regions: Tensor, files: list[str], *, mirrored: bool) -> Tensor:
        """Regions of the grid (B, H W, D) → of the boxes (B, R, D), if there are boxes."""
        if self._boxes is None:
            return regions
        assert self._encoder.grid is not None
        boxes = torch.from_numpy(np.stack([self._boxes[file] for file in files])).to(regions)
        return at_boxes.pooled(regions, self._encoder.grid, at_boxes.mirrored(boxes) if mirrored else boxes)


def half(features: Tensor, files: Sequence[str], remedy: str) -> np.ndarray:
    """(B, …) as float16, the features of `files`. Raises UserError, with file and remedy, for one too large."""
    rounded = features.half()
    finite = rounded.isfinite().flatten(1).all(1)
    if not finite.all():
        file, feature = next((file, row) for file, row, good in zip(files, features, finite, strict=True) if not good)
        raise UserError(f"{file}: a feature of {feature.abs().max():.3g} overflows float16; {remedy}")
    return rounded.cpu().numpy()
