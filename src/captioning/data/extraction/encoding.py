"""Pixels → rows of the feature store, by a frozen encoder.

B images a batch, R regions or boxes, D feature width, H, W rows and columns of the grid, S side in pixels.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import SimpleQueue

import numpy as np
import torch
from torch import Tensor, nn

from captioning.data.extraction.engines import Run
from captioning.system.errors import UserError
from captioning.vision.encoders import at_boxes
from captioning.vision.encoders.encoders import Encoder

Rows = dict[str, np.ndarray]
"""Arrays (B, …) by name: what is stored of B images."""


def at_once(encoder: Encoder) -> int:
    """How many batches are encoded at once: on a CPU as many as torch may have threads, each a batch of its own.

    All threads on one batch wait for each other at every layer (`python -m benchmarks.features`). A GPU has one batch.
    """
    return torch.get_num_threads() if encoder.scale.device.type == "cpu" else 1


def by_torch(encoder: Encoder, autocast: Callable[[], AbstractContextManager[None]] = nullcontext) -> list[Run]:
    """The encoder itself, as often as it may run at once. autocast: the precision that it runs in."""
    with autocast():
        ready = _cast(encoder)

    def run(pixels: Tensor) -> Tensor:
        with autocast():
            regions: Tensor = ready(pixels)
        return regions

    return [run] * at_once(encoder)


def _cast(encoder: Encoder) -> Encoder:
    """The encoder, or under autocast a copy whose weights have the type that it would cast them to in each batch.

    Subclasses may compute with their weights before they are cast, as those that standardise them do.
    """
    device = encoder.scale.device.type
    if not torch.is_autocast_enabled(device):
        return encoder
    ready = copy.deepcopy(encoder)
    for module in ready.modules():
        if type(module) in (nn.Conv2d, nn.Linear):
            module.to(torch.get_autocast_dtype(device))
    return ready


class Encode:
    """Pixels → rows of the store, called by several threads, of which as many encode at once as there are `runs`."""

    def __init__(
        self,
        encoder: Encoder,
        runs: Iterable[Run],
        keep: Sequence[str],
        batch_size: int,
        mirror: bool,
        boxes: Mapping[str, np.ndarray] | None,
    ) -> None:
        self._encoder, self._keep, self._batch_size = encoder, keep, batch_size
        self._mirror, self._boxes = mirror, boxes
        self._free: SimpleQueue[Run] = SimpleQueue()
        for run in runs:
            self._free.put(run)

    def __call__(self, pixels: np.ndarray, files: list[str]) -> Rows:
        """uint8 (B, 3, S, S) → their rows; those of the mirrored images have the prefix mirrored_.

        A batch that is not full is filled up: kernels are selected by shape, and no row may depend on how many others
        there are.
        """
        filled = np.zeros((self._batch_size, *pixels.shape[1:]), dtype=np.uint8)
        filled[: len(pixels)] = pixels
        rows: Rows = {}
        with self._turn() as run, torch.inference_mode():
            batch = torch.from_numpy(filled).to(self._encoder.scale.device)
            views = {"": batch, "mirrored_": batch.flip(3)} if self._mirror else {"": batch}
            for prefix, view in views.items():
                regions = run(view)[: len(files)]
                kept = {"means": regions.mean(1), "regions": self._at_boxes(regions, files, mirrored=bool(prefix))}
                rows |= {f"{prefix}{name}": half(kept[name], files, "choose another encoder") for name in self._keep}
        return rows

    @contextmanager
    def _turn(self) -> Iterator[Run]:
        """The next run that is free."""
        run = self._free.get()
        try:
            yield run
        finally:
            self._free.put(run)

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
