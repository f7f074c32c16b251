"""What a network reads in training: stored features of a frozen encoder, or pixels for one that is trained.

Both plan the batches of an epoch, read rows of the store, and draw what a step of training sees of them. They have no
parameters; which of the two a training has is decided once.

B images, D feature width, N images of the store, R regions, S side in pixels.
"""

import numpy as np
import torch
from torch import Tensor

from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.settings.training import Augmentation
from captioning.training import batches
from captioning.training.encoder import augmentation
from captioning.training.labels import ImageLabels
from captioning.vision.features import encodings
from captioning.vision.features.placement import moved, to_device
from captioning.vision.features.store import FeatureStore


class FeatureInputs:
    """Features of a frozen encoder. by_image: the decoder works once an image, so a batch has all captions of each.

    mirror_chances (N,): how likely training reads the mirrored image of a row of the store; None: it never does.
    """

    def __init__(self, store: FeatureStore, *, by_image: bool, mirror_chances: np.ndarray | None = None) -> None:
        self._store, self._by_image, self.mirror_chances = store, by_image, mirror_chances

    def plan(
        self,
        captions: EncodedCaptions,
        size: int,
        seed: tuple[int, ...],
        per_image: int | None = None,  # noqa: ARG002 (a frozen encoder costs nothing, so all captions are read)
    ) -> list[np.ndarray]:
        """Batches of captions of like length; or of images with all of their captions."""
        return (batches.by_image_length if self._by_image else batches.by_length)(captions, size, seed)

    def read(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:
        """Stored features of `rows`: mean (B, D) and, where they are stored, regions (B, R, D)."""
        return to_device(encodings.stored_features(self._store, rows), device)

    def draw(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:
        """As `read`, for a step of training: those of the mirrored image by a draw for each row."""
        if self.mirror_chances is None:
            return self.read(rows, device)
        mirrored = torch.rand(len(rows)).numpy() < self.mirror_chances[rows]
        return to_device(encodings.drawn_features(self._store, rows, mirrored), device)

    def labels(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:  # noqa: ARG002
        """None: a frozen encoder learns nothing from them."""
        return ()


class PixelInputs:
    """Pixels for an encoder that is trained. augmentation: how a step of training changes them.

    mirror_chances (N,): how likely each row of the store is mirrored, where `augmentation` has a flip.
    labels: of the training images, where the network has heads for them; grid: rows and columns of its regions.
    """

    def __init__(
        self,
        store: FeatureStore,
        augmentation: Augmentation | None = None,
        mirror_chances: np.ndarray | None = None,
        labels: ImageLabels | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        self._store, self._augmentation = store, augmentation or Augmentation()
        self.mirror_chances, self._labels, self._grid = mirror_chances, labels, grid

    def plan(
        self, captions: EncodedCaptions, size: int, seed: tuple[int, ...], per_image: int | None = None
    ) -> list[np.ndarray]:
        """Batches of images with all of their captions, or with `per_image` of them."""
        return batches.by_image(captions, size, seed, per_image)

    def read(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:
        """Stored pixels of `rows`, uint8 (B, 3, S, S), and `Places` where there are objects."""
        return to_device(encodings.stored_pixels(self._store, rows), device)

    def draw(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:
        """As `read`, for a step of training: each image changed by a draw of its own, which moves no object."""
        pixels, *places = self.read(rows, device)
        chances = None if self.mirror_chances is None else moved(torch.from_numpy(self.mirror_chances[rows]), device)
        return (augmentation.augment(pixels, chances, self._augmentation), *places)

    def labels(self, rows: np.ndarray, device: torch.device) -> tuple[Tensor, ...]:
        """What heads learn of the images in `rows`, as `ImageLabels.of` has it; nothing without labels."""
        return () if self._labels is None else to_device(self._labels.of(rows, self._grid), device)


Inputs = FeatureInputs | PixelInputs
