"""Unlike images are recognised by an encoder's features: on drawn scenes, made pictures and one photograph."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from captioning.data.datasets.scenes import composition, drawing
from captioning.vision.encoders import encoders
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features.unlikeness import IMAGES, Detector, KeptFeatures, kept, spread
from captioning.vision.images import Transform

SIDE = 64
TRANSFORM = Transform(SIDE, None, "bilinear", (0.5,) * 3, (0.25,) * 3)
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """A network that was never trained: what it has learnt can only help."""
    return encoders.build("resnet18", transform=TRANSFORM, weights={}, seed=1)


@torch.inference_mode()
def means(encoder: Encoder, pictures: list[Image.Image]) -> Tensor:
    pixels = torch.from_numpy(np.stack([TRANSFORM.pixels(picture) for picture in pictures]))
    return torch.cat([encoder(part).mean(1) for part in pixels.split(32)])


def drawn(count: int, seed: int) -> list[Image.Image]:
    return [drawing.draw(scene, 96) for scene in composition.compose(count, seed)]


def photographs() -> list[Image.Image]:
    """Parts of the photograph that matplotlib ships, of many sizes."""
    path = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    whole = Image.open(path).convert("RGB")
    parts = []
    for _ in range(40):
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


@pytest.fixture(scope="module")
def detector(encoder: Encoder) -> Detector:
    train, val = (kept(means(encoder, drawn(count, seed))) for count, seed in ((256, 1), (100, 2)))
    return Detector(KeptFeatures(train, val))


def share(detector: Detector, encoder: Encoder, pictures: list[Image.Image]) -> float:
    return float(detector.unlike(means(encoder, pictures)).double().mean())


def test_few_scenes_are_unlike_other_scenes(detector: Detector, encoder: Encoder) -> None:
    assert share(detector, encoder, drawn(100, 3)) <= 0.06


@pytest.mark.parametrize("make", [photographs, textures, gradients])
def test_most_pictures_of_another_kind_are_unlike_scenes(detector: Detector, encoder: Encoder, make) -> None:  # type: ignore[no-untyped-def]
    assert share(detector, encoder, make()) >= 0.5  # of an encoder that was never trained


def subspace(count: int, seed: int, tilt: float = 0.0) -> Tensor:
    """Vectors (count, 32) near a plane of four dimensions; `tilt`: how far they leave it."""
    basis = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    random = torch.Generator().manual_seed(seed)
    inside = torch.randn(count, 4, generator=random) @ basis
    return inside + tilt * torch.randn(count, 32, generator=random)


def test_the_distance_is_the_squared_residual_of_the_principal_subspace() -> None:
    train = kept(subspace(64, 1, tilt=0.1))
    detector = Detector(KeptFeatures(train, kept(subspace(64, 2, tilt=0.1))))
    rows = train.double().numpy()
    mean = rows.mean(0)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    basis = vectors[:, np.argsort(values)[::-1][:8]]  # min(64, 32) / 4
    other = subspace(5, 3, tilt=1.0)
    scaled = (other / other.norm(dim=1, keepdim=True)).double().numpy() - mean
    expected = ((scaled - scaled @ basis @ basis.T) ** 2).sum(1)
    np.testing.assert_allclose(detector.distances(other).numpy(), expected, rtol=1e-5)


def test_the_threshold_is_passed_by_one_validation_image_in_a_hundred() -> None:
    val = kept(subspace(200, 2, tilt=0.1))
    detector = Detector(KeptFeatures(kept(subspace(300, 1, tilt=0.1)), val))
    assert int(detector.unlike(val).sum()) == 2
    assert detector.unlike(subspace(50, 4, tilt=2.0)).all()


def test_the_length_of_a_feature_vector_does_not_count() -> None:
    detector = Detector(KeptFeatures(kept(subspace(64, 1, tilt=0.1)), kept(subspace(64, 2, tilt=0.1))))
    other = subspace(9, 3, tilt=0.5)
    torch.testing.assert_close(detector.distances(other), detector.distances(1000 * other), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_training_images_are_enough_to_start(count: int) -> None:
    detector = Detector(KeptFeatures(kept(subspace(count, 1)), kept(subspace(1, 2))))
    assert detector.unlike(subspace(4, 3)).shape == (4,)


@pytest.mark.parametrize("count", [1, 7, IMAGES, IMAGES + 1, 5000])
def test_rows_are_spread_evenly_and_none_is_taken_twice(count: int) -> None:
    rows = np.arange(count) * 3
    chosen = spread(rows)
    assert len(chosen) == min(count, IMAGES)
    assert (chosen[0], chosen[-1]) == (0, 3 * (count - 1))
    assert len(set(chosen.tolist())) == len(chosen)


def test_features_are_kept_short_and_of_length_one() -> None:
    found = kept(torch.full((2, 4), 1e6))
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, torch.full((2, 4), 0.5, dtype=torch.float16))
