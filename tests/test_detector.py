"""The centre-point detector: its targets, losses and peaks against what is counted by hand, and its training."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captioning.data.datasets.scenes.composition import compose
from captioning.data.datasets.scenes.drawing import draw, objects
from captioning.data.detection import labelled, training
from captioning.data.detection.labelled import Labelled
from captioning.data.detection.training import DetectorTraining
from captioning.data.objects import detectors, scores
from captioning.data.objects.detectors import TrainedDetector
from captioning.data.objects.instances import Truth
from captioning.data.objects.labels import Found
from captioning.system.checkpoints import Checkpoint
from captioning.system.errors import UserError
from captioning.system.sealed import DamagedError
from captioning.vision.detection import network
from captioning.vision.detection.network import CentrePoints, Maps
from captioning.vision.detection.peaks import peaks
from captioning.vision.detection.targets import Boxes, Targets, losses, radius, targets

CLASSES = ("boy", "dog", "girl")
SIDE = 96


def one(kind: int, *box: float) -> Boxes:
    return Boxes(np.array([kind]), np.array([box], dtype=np.float32))


NOTHING = Boxes(np.zeros(0, dtype=np.int64), np.zeros((0, 4), dtype=np.float32))


def test_there_is_a_cell_for_four_pixels_and_a_heat_map_for_each_class() -> None:
    maps = CentrePoints(5)(torch.zeros(2, 3, 48, 48, dtype=torch.uint8))
    assert [tuple(part.shape) for part in maps] == [(2, 5, 12, 12), (2, 2, 12, 12), (2, 2, 12, 12)]
    assert maps.heat.sigmoid().mean().item() == pytest.approx(0.1, abs=0.05)  # nearly no cell is a centre


def test_a_target_is_one_at_the_centre_and_less_around_it() -> None:
    wanted = targets([one(1, 0.25, 0.5, 0.75, 1.0), NOTHING], classes=2, side=8)
    assert wanted.heat.shape == (2, 2, 8, 8)
    assert wanted.cells.tolist() == [[0, 6, 4]]  # the centre is at .5 across and .75 down
    assert wanted.sizes.tolist() == [[4.0, 4.0]]
    assert wanted.offsets.tolist() == [[0.0, 0.0]]
    assert wanted.heat[0, 1, 6, 4] == 1
    deviation = (2 * radius(4, 4) + 1) / 6
    assert wanted.heat[0, 1, 5, 3].item() == pytest.approx(math.exp(-2 / (2 * deviation**2)))
    assert (wanted.heat == 1).sum() == 1
    assert not wanted.heat[0, 0].any()
    assert not wanted.heat[1].any()


def overlap(width: float, height: float, left: float, top: float, right: float, bottom: float) -> float:
    """Of the box (0, 0, width, height) and another one."""
    shared = max(0.0, min(width, right) - max(0, left)) * max(0.0, min(height, bottom) - max(0, top))
    return shared / (width * height + (right - left) * (bottom - top) - shared)


@pytest.mark.parametrize("size", [(3, 4), (10, 10), (40, 7), (61, 55)])
def test_the_radius_is_the_largest_at_which_boxes_still_overlap(size: tuple[int, int]) -> None:
    """Corners move together, inwards, or outwards: brute force over whole cells."""
    width, height = size

    def least(r: int) -> float:
        ways = ((r, r, width + r, height + r), (r, r, width - r, height - r), (-r, -r, width + r, height + r))
        return min(overlap(width, height, *way) for way in ways)

    found = radius(width, height)
    assert least(found) >= 0.7 > least(found + 1)


def test_losses_are_those_counted_by_hand() -> None:
    """Two cells of a class: a centre that is half believed, and a cell near it (Y = .5) that is believed by .2."""
    logit = math.log(0.2 / 0.8)
    maps = Maps(
        torch.tensor([[[[0.0, logit]]]]), torch.tensor([[[[3.0, 9.0]], [[5.0, 9.0]]]]), torch.full((1, 2, 1, 2), 0.5)
    )
    cells, sizes = torch.tensor([[0, 0, 0]]), torch.tensor([[4.0, 2.0]])
    wanted = Targets(torch.tensor([[[[1.0, 0.5]]]]), cells, sizes, torch.tensor([[0.25, 0.5]]))
    found = losses(maps, wanted)
    heat = -(0.5**2 * math.log(0.5) + 0.5**4 * 0.2**2 * math.log(0.8))
    assert found["heat"].item() == pytest.approx(heat)
    assert found["sizes"].item() == pytest.approx(0.5 * (1 + 3))
    assert found["offsets"].item() == pytest.approx(0.25)
    nothing = losses(maps, targets([NOTHING], 1, 2)._replace(heat=torch.zeros(1, 1, 1, 2)))
    assert [nothing[name].item() for name in ("sizes", "offsets")] == [0, 0]
    assert nothing["heat"].item() == pytest.approx(-(0.5**2 * math.log(0.5) + 0.2**2 * math.log(0.8)))


def test_peaks_are_those_of_brute_force() -> None:
    generator = torch.Generator().manual_seed(3)
    maps = Maps(*(torch.randn(2, width, 6, 6, generator=generator) for width in (3, 2, 2)))
    found = peaks(maps, 7)
    for image in range(2):
        listed = []
        for kind, row, column in np.ndindex(3, 6, 6):
            heat = maps.heat[image, kind]
            around = heat[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            if heat[row, column] == around.max():
                listed.append((heat[row, column].sigmoid().item(), kind, row, column))
        for place, (score, kind, row, column) in enumerate(sorted(listed, reverse=True)[:7]):
            width, height = maps.sizes[image, :, row, column].tolist()
            x, y = (np.array([column, row]) + maps.offsets[image, :, row, column].numpy()).tolist()
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            assert found.scores[image, place].item() == pytest.approx(score)
            assert found.classes[image, place] == kind
            assert found.boxes[image, place].tolist() == pytest.approx(np.clip(np.array(corners) / 6, 0, 1), abs=1e-6)


class Perfect(torch.nn.Module):
    """Stands for a network: says of the images, one after another, just what is true."""

    def __init__(self, images: list[Boxes]) -> None:
        super().__init__()
        self.heat, self._images = torch.nn.Conv2d(1, 1, 1), iter(images)

    def forward(self, _pixels: torch.Tensor) -> Maps:
        wanted = targets([next(self._images)], len(KINDS), SIDE // 4)
        parts = [torch.zeros(1, 2, SIDE // 4, SIDE // 4) for _ in range(2)]
        for part, values in zip(parts, wanted[2:], strict=True):
            part[wanted.cells[:, 0], :, wanted.cells[:, 1], wanted.cells[:, 2]] = values
        return Maps(wanted.heat.logit(1e-6), *parts)


SCENES = compose(30, 5)
TRUE = {
    str(number): Truth(
        [Found(drawn.name, 1.0, (drawn.left, drawn.top, drawn.right, drawn.bottom)) for drawn in objects(scene, 192)],
        [],
    )
    for number, scene in enumerate(SCENES)
}
KINDS = tuple(sorted({found.name for image in TRUE.values() for found in image.objects}))


def boxes_of(image: str) -> Boxes:
    return labelled.boxes(TRUE[image].objects, (192, 192), KINDS)


def test_a_perfect_detector_has_an_average_precision_of_one() -> None:
    perfect: Any = Perfect([boxes_of(image) for image in TRUE])
    detector = TrainedDetector(perfect, KINDS, SIDE)
    blank = Image.new("RGB", (192, 192))
    found = {image: detector.found(blank, 0.9) for image in TRUE}
    assert scores.average_precision(found, TRUE) == {"ap": 1.0, "ap50": 1.0}
    assert min(one.score for image in found.values() for one in image) == 1


class Kept:
    """A checkpoint in memory, which ends the process, as it were, after so many were saved."""

    def __init__(self, most: float = math.inf) -> None:
        self.most, self.states = most, list[bytes]()

    def save(self, _state: dict[str, Any]) -> None:
        self.most -= 1
        if self.most < 0:
            raise KeyboardInterrupt

    def load(self) -> None:
        return None


def test_four_images_are_learnt_by_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_BATCH": 4, "_WARMUP": 10, "_AVERAGE": 0.9}.items():
        monkeypatch.setattr(training, name, value)
    images = list(TRUE)[:4]
    pixels = np.stack([detectors.transform(SIDE).pixels(draw(SCENES[int(image)], 192)) for image in images])
    data = Labelled(np.tile(pixels, (20, 1, 1, 1)), [boxes_of(image) for image in images] * 20)
    torch.manual_seed(1)
    kept: Any = Kept()
    trained = DetectorTraining(CentrePoints(len(KINDS)), data, lambda _: {"ap": 0.0, "ap50": 0.0}, kept, seed=1)
    history = trained.fit(epochs=3).history
    learnt = CentrePoints(len(KINDS))
    learnt.load_state_dict(trained.averaged.state_dict())
    detector = TrainedDetector(learnt, KINDS, SIDE)
    pairs = zip(images, pixels, strict=True)
    found = {image: detector.of_pixels(own, (192, 192), 0.01) for image, own in pairs}
    assert scores.average_precision(found, {image: TRUE[image] for image in images})["ap50"] > 0.9
    assert history[-1]["heat"] < history[0]["heat"] / 3


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., DetectorTraining]:
    """Trainings of 20 images of 32 pixels, two steps an epoch, with a checkpoint after each step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(training, "_CHECKPOINT", 1)
    monkeypatch.setattr(network, "_WIDTHS", (2, 4, 4, 4))
    draws = np.random.default_rng(1)
    pixels = draws.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
    data = Labelled(pixels, [one(number % 3, 0.1, 0.2, 0.5, 0.9) for number in range(20)])

    def make(seed: int = 1, checkpoint: Any = None, validated: int = 0) -> DetectorTraining:
        torch.manual_seed(seed)
        scored = iter([{"ap": 0.1, "ap50": ap50} for ap50 in (0.2, 0.5, 0.4)[validated:]])
        kept = checkpoint or Checkpoint("key", "objects")
        return DetectorTraining(CentrePoints(3), data, lambda _: next(scored), kept, seed)

    return make


def written(trained: DetectorTraining, folder: Path) -> tuple[bytes, bytes]:
    card = {"classes": CLASSES, "image_size": 32, "history": trained.progress.history}
    detectors.write(folder, trained.best, card)
    return (folder / "detector/detector.safetensors").read_bytes(), (folder / "detector/detector.json").read_bytes()


def test_the_same_seed_gives_the_same_bytes_and_the_best_epoch_is_kept(
    small: Callable[..., DetectorTraining], tmp_path: Path
) -> None:
    kept: Any = Kept()
    first = small(checkpoint=kept)
    assert first.fit(3).best == 1
    again = small(checkpoint=Kept())
    again.fit(3)
    assert written(first, tmp_path / "first") == written(again, tmp_path / "again")
    other = small(2, checkpoint=Kept())
    other.fit(3)
    assert written(other, tmp_path / "other")[0] != written(first, tmp_path / "first")[0]


@pytest.mark.parametrize("saved", [1, 3, 5])
def test_a_killed_training_goes_on_where_it_was_and_ends_the_same(
    small: Callable[..., DetectorTraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: int
) -> None:
    """Three epochs have nine checkpoints: after each of two steps, and after the validation."""
    whole = small(checkpoint=Kept())
    whole.fit(3)
    left = iter(range(saved))
    write = Checkpoint.save

    def save(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        write(checkpoint, state)

    monkeypatch.setattr(Checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        small().fit(3)
    monkeypatch.setattr(Checkpoint, "save", write)
    resumed = small(validated=saved // 3)
    steps = []
    step = resumed._step
    monkeypatch.setattr(resumed, "_step", lambda *given: (steps.append(1), step(*given)))
    resumed.fit(3)
    assert len(steps) == 6 - (saved - saved // 3)  # those that are left
    assert written(resumed, tmp_path / "resumed") == written(whole, tmp_path / "whole")


def test_a_loss_that_is_not_finite_ends_the_training(small: Callable[..., DetectorTraining]) -> None:
    trained = small(checkpoint=Kept())
    torch.nn.init.constant_(trained.network.sizes.weight, math.inf)
    with pytest.raises(UserError, match=r"the loss sizes is .* at step 1, epoch 1; set another seed"):
        trained.fit(1)


def test_a_mirrored_image_has_its_boxes_mirrored() -> None:
    pixels = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    data = Labelled(pixels, [one(0, 0.1, 0.2, 0.4, 0.9), one(1, 0.5, 0.5, 1.0, 1.0)])
    found, turned = data.batch(np.array([1, 0]), np.array([True, False]))
    assert found.tolist() == [pixels[1][:, :, ::-1].tolist(), pixels[0].tolist()]
    assert turned[0].boxes.tolist() == [[0.0, 0.5, 0.5, 1.0]]
    assert turned[1].boxes.tolist() == data.boxes[0].boxes.tolist()


def test_images_wait_on_the_disk(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    array = labelled.stored(iter(images), (5, 3, 8, 8), tmp_path)
    assert isinstance(array, np.memmap)
    assert (array == images).all()
    assert not list(tmp_path.iterdir())  # it vanishes with the process


def test_a_damaged_detector_is_not_read(tmp_path: Path) -> None:
    torch.manual_seed(1)
    made = detectors.write(tmp_path, CentrePoints(3).state_dict(), {"classes": CLASSES, "image_size": 32})
    assert (made.classes, made.transform.image_size) == (CLASSES, 32)
    assert detectors.of(tmp_path) == tmp_path / "detector"
    weights = tmp_path / "detector/detector.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedError, match=r"not the file that detector.json describes; try again"):
        detectors.read(tmp_path / "detector", "try again")
