"""What is in the images of a data set, and where, as labels that a trained encoder learns beside its captions.

B images of a step, N images, R regions in H rows and W columns, K labels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captioning.data.datasets.scenes.composition import Scene
from captioning.data.datasets.scenes.facts import everywhere, labels, located, read_facts
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.system.errors import UserError

_LEAST = 5  # training images that have a label: rarer ones are left out
_FEW = 100  # in so many images or fewer, labels may be as rare as one image
_RARE = 1e-3
_NOWHERE = np.empty((0, 3))
_SIDES = ("left", "right")


class ImageLabels:
    """The labels of training images by row of the store; `count` is K. Images of other splits have none here."""

    def __init__(self, scenes: Mapping[int, Scene], rows: int, *, moved: bool) -> None:
        """scenes: by row of the store, of `rows` rows.

        moved: training crops or mirrors images. Then no label is located, and none speaks of left or right.
        """
        names = {row: _labels(scene, moved=moved) for row, scene in scenes.items()}
        frequency = Counter(name for image in names.values() for name in image)
        least = min(_LEAST, 1 + len(scenes) // _FEW)
        frequent = sorted(name for name, images in frequency.items() if images >= least)
        columns = {name: column for column, name in enumerate(frequent)}
        self.count, self._images = len(columns), len(scenes)
        self._present = torch.zeros(rows, self.count, dtype=torch.uint8)
        self._everywhere = torch.zeros(rows, self.count, dtype=torch.uint8)
        self._places: dict[int, np.ndarray] | None = None if moved else {}
        for row, scene in scenes.items():
            self._present[row, _columns(names[row], columns)] = 1
            self._everywhere[row, _columns(everywhere(scene), columns)] = 1
            if self._places is not None:
                self._places[row] = _places(scene, columns)

    @classmethod
    def read(cls, path: Path, image_ids: list[str], train: EncodedCaptions, *, moved: bool) -> "ImageLabels":
        """The labels of the images that have training captions. Raises UserError when the facts cannot be read."""
        scenes = read_facts(path)
        rows = {int(row): image_ids[row] for row in np.unique(train.image)}
        lacking = sorted(set(rows.values()) - scenes.keys())
        if lacking:
            raise UserError(f"{path}: nothing of image {lacking[0]}; run `dvc repro -f download`")
        used = {row: scenes[image] for row, image in rows.items()}
        return cls(used, len(image_ids), moved=moved)

    @property
    def placed(self) -> bool:
        """Do regions have labels?"""
        return self._places is not None

    def log_odds(self) -> Tensor:
        """How likely each label is in a training image, (K,): where the logits of a head begin."""
        frequency = self._present.sum(0) / max(self._images, 1)
        return torch.logit(frequency.clamp(_RARE, 1 - _RARE))

    def region_weight(self, regions: int) -> Tensor:
        """How much each label of a region counts, (K,): one that holds in all R regions counts 1 / R in each."""
        return torch.where(self._everywhere.bool().any(0), 1 / regions, 1.0)

    def of(self, rows: np.ndarray, grid: tuple[int, int] | None) -> tuple[Tensor, ...]:
        """Labels of images (B, K) and of their regions (B, R, K), 1 where there is one, else 0.

        grid: rows and columns of the regions; None: they form no grid, and labels are of images alone.
        """
        present = self._present[torch.from_numpy(rows)].float()
        if self._places is None or grid is None:
            return (present,)
        height, width = grid
        regions = self._everywhere[torch.from_numpy(rows)].float().unsqueeze(1).repeat(1, height * width, 1)
        for index, row in enumerate(rows.tolist()):
            x, y, column = self._places.get(row, _NOWHERE).T
            cells = np.minimum(y * height, height - 1).astype(int) * width + np.minimum(x * width, width - 1).astype(
                int
            )
            regions[index, torch.from_numpy(cells), torch.from_numpy(column.astype(int))] = 1
        return present, regions


def _labels(scene: Scene, *, moved: bool) -> set[str]:
    return {label for label in labels(scene) if not (moved and any(side in label for side in _SIDES))}


def _columns(names: Iterable[str], columns: Mapping[str, int]) -> list[int]:
    return [columns[name] for name in names if name in columns]


def _places(scene: Scene, columns: Mapping[str, int]) -> np.ndarray:
    """(M, 3): x and y of each label of a region, 0 to 1 from the top left, and its column."""
    placed = [(x, y, columns[label]) for label, x, y in located(scene) if label in columns]
    return np.array(placed, dtype=np.float64).reshape(-1, 3)
