"""Unlike images are recognised by their statistics: scenes, parts of a photograph, and made images."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from captioning.captioner import model
from captioning.data.datasets.scenes import composition, drawing
from captioning.models import shipped
from captioning.vision.features.unlikeness import IMAGES, Detector, KeptStatistics, spread, statistics, width
from captioning.vision.images import Transform
from tests.noise import noise

SIDE = 64
TRANSFORM = Transform(SIDE, None, "bilinear", (0.5,) * 3, (0.25,) * 3)
RANDOM = np.random.default_rng(0)


def pixels(images: list[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([TRANSFORM.pixels(image) for image in images]))


def drawn(count: int, seed: int) -> list[Image.Image]:
    return [drawing.draw(scene, 96) for scene in composition.compose(count, seed)]


def photographs(count: int) -> list[Image.Image]:
    """Parts of the photograph that matplotlib ships, of many sizes."""
    path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    whole = Image.open(path).convert("RGB")
    parts = []
    for _ in range(count):
        side = int(RANDOM.integers(120, min(whole.size)))
        left, top = (int(RANDOM.integers(0, length - side + 1)) for length in whole.size)
        parts.append(whole.crop((left, top, left + side, top + side)))
    return parts


def textures() -> list[Image.Image]:
    """Noise of several grains, in colour."""
    grains = [int(side) for side in RANDOM.integers(4, 97, 40)]
    noise = [RANDOM.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in grains]
    return [Image.fromarray(part).resize((96, 96), Image.Resampling.BICUBIC) for part in noise]


def gradients() -> list[Image.Image]:
    """From one colour to another, from left to right."""
    ramp = np.linspace(0, 1, 96)[None, :, None]
    pairs = RANDOM.integers(0, 256, (40, 2, 3))
    return [Image.fromarray(np.repeat(a * ramp + b * (1 - ramp), 96, 0).astype(np.uint8)) for a, b in pairs]


def blanks() -> list[Image.Image]:
    """One colour each."""
    return [Image.new("RGB", (96, 96), tuple(colour)) for colour in RANDOM.integers(0, 256, (40, 3)).tolist()]


def of_scenes() -> Detector:
    train, val = (statistics(pixels(drawn(count, seed))) for count, seed in ((256, 1), (200, 2)))
    return Detector(KeptStatistics(train, val))


def of_photographs() -> Detector:
    found = statistics(pixels(photographs(400)))
    return Detector(KeptStatistics(found[:250], found[250:]))


@pytest.fixture(scope="module", params=[of_scenes, of_photographs])
def detector(request: pytest.FixtureRequest) -> Detector:
    made: Detector = request.param()
    made.kind = request.param.__name__  # type: ignore[attr-defined]
    return made


def share(detector: Detector, images: list[Image.Image]) -> float:
    return float(detector.unlike(statistics(pixels(images))).mean())


def test_few_images_of_the_same_kind_are_unlike(detector: Detector) -> None:
    others = {"of_scenes": drawn(100, 3), "of_photographs": photographs(100)}
    assert share(detector, others[detector.kind]) <= 0.06  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [textures, gradients, blanks])
def test_images_of_no_kind_are_unlike(detector: Detector, make) -> None:  # type: ignore[no-untyped-def]
    assert share(detector, make()) >= 0.95


def test_scenes_and_photographs_are_unlike_each_other(detector: Detector) -> None:
    others = {"of_scenes": photographs(40), "of_photographs": drawn(100, 3)}
    assert share(detector, others[detector.kind]) >= 0.95  # type: ignore[attr-defined]


def vectors(count: int, seed: int, shift: float = 0.0) -> Tensor:
    """Vectors (count, 6), of which the last is twice the first, nearly."""
    drawn = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    drawn[:, 5] = 2 * drawn[:, 0] + 0.1 * drawn[:, 5] + shift
    return drawn


def test_the_distance_is_that_of_mahalanobis_with_a_shrunk_correlation() -> None:
    train, other = vectors(64, 1), vectors(5, 3, shift=1.0)
    detector = Detector(KeptStatistics(train, vectors(64, 2)))
    rows = train.double().numpy()
    scale = np.diag(1 / rows.std(0))
    shrunk = np.corrcoef(rows.T) + 0.003 * np.eye(6)
    centred = (other.double().numpy() - rows.mean(0)) @ scale
    expected = np.einsum("bi,ij,bj->b", centred, np.linalg.inv(shrunk), centred)
    np.testing.assert_allclose(detector.distances(other), expected, rtol=1e-6)


def test_the_threshold_is_passed_by_one_validation_image_in_a_hundred() -> None:
    val = vectors(200, 2)
    detector = Detector(KeptStatistics(vectors(300, 1), val))
    assert int(detector.unlike(val).sum()) == 2
    assert detector.unlike(vectors(50, 4, shift=9.0)).all()


def test_statistics_by_hand() -> None:
    """Left half black, right half (3, 0, 0): neighbours, every second pair at 2 pixels, and every second at 4."""
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[0, 0, :, 4:] = 3
    [found] = statistics(image).tolist()
    assert found[:3] == pytest.approx([1.5 / 255, 0, 0])
    assert found[3:6] == pytest.approx([np.std([0] * 32 + [3] * 32, ddof=1) / 255, 0, 0])
    assert found[6:12] == pytest.approx([104 / 112, 104 / 112, 1, 1, 1, 1])  # of 8 x 7 across, 8 differ, by 3
    assert found[12:18] == pytest.approx([20 / 24, 20 / 24, 1, 1, 1, 1])  # of 4 x 3 across, 4 differ; of 12 down, none
    assert found[18:] == pytest.approx([8 / 16, 8 / 16, 1, 1, 1, 1])  # of 4 x 2 across, all differ; of 8 down, none
    assert len(found) == width(8)


@pytest.mark.parametrize("side", [2, 31, 32, 33, 260])
def test_the_number_of_statistics_is_known_beforehand(side: int) -> None:
    random = torch.Generator().manual_seed(side)
    found = statistics(torch.randint(256, (2, 3, side, side), dtype=torch.uint8, generator=random))
    assert found.shape == (2, width(side))


def test_small_drawings_are_unlike_photographs_of_more_pixels() -> None:
    """Of 96 pixels, enlarged to those of the shipped model: .02 were as far away with neighbouring pixels alone."""
    shipped_model = model.load(shipped.folder("photographs"))
    assert shipped_model.statistics is not None
    detector, transform = Detector(shipped_model.statistics), shipped_model.transform
    found = [statistics(torch.from_numpy(transform.pixels(image)[None])) for image in drawn(60, 3)]
    assert (detector.relative(torch.cat(found)) >= 1.6).mean() >= 0.75


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_training_images_are_enough_to_start(count: int) -> None:
    detector = Detector(KeptStatistics(vectors(count, 1), vectors(1, 2)))
    assert detector.unlike(vectors(4, 3)).shape == (4,)


@pytest.mark.parametrize("count", [1, 7, IMAGES, IMAGES + 1, 5000])
def test_rows_are_spread_evenly_and_none_is_taken_twice(count: int) -> None:
    rows = np.arange(count) * 3
    chosen = spread(rows)
    assert len(chosen) == min(count, IMAGES)
    assert (chosen[0], chosen[-1]) == (0, 3 * (count - 1))
    assert len(set(chosen.tolist())) == len(chosen)


@pytest.mark.parametrize("seed", range(12))
def test_a_statistic_in_which_training_images_hardly_differ_does_not_decide_alone(seed: int) -> None:
    """Few images of noise: some statistics are all but the same in them. A white image is unlike them nevertheless."""
    images = [noise((64, 64), sigma, seed=100 * seed + sigma) for sigma in range(20, 84)]
    small = Transform(32, None, "bilinear", (0.0,) * 3, (1.0,) * 3)
    read = [small.pixels(image) for image in (Image.new("RGB", (64, 64), "white"), *images)]
    measured = statistics(torch.from_numpy(np.stack(read)))
    detector = Detector(KeptStatistics(measured[1::2], measured[2::2]))
    distances = detector.relative(measured.numpy())
    assert distances[0] > 10
    assert (distances[1:] > 1).sum() <= 1
