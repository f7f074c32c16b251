"""The feature store: what is written is what is read, byte for byte, whatever the threads."""

import hashlib
import io
import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from captioning import encoders, features
from captioning.archives import Pictures, write_zip
from captioning.encoders import Encoder
from captioning.errors import UserError
from captioning.features import FeatureStore
from captioning.images import Transform

COUNT, SIZE = 11, 64
TRANSFORM = Transform(SIZE, SIZE, "bilinear", (0.5,) * 3, (0.5,) * 3)


def jpeg(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((90, 70)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_zip(folder / "images.zip", [(f"{i}.jpg", jpeg(i)) for i in range(COUNT)] + [("bad.jpg", jpeg(0)[:300])])
    return folder


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return encoders.freeze(encoders.build("squeezenet1_1", transform=TRANSFORM, weights={}))


def table(*rows: int | str) -> pd.DataFrame:
    chosen = rows or range(COUNT)
    return pd.DataFrame({"image_id": [f"id{i}" for i in chosen], "file": [f"images.zip/{i}.jpg" for i in chosen]})


def ids(images: pd.DataFrame) -> list[str]:
    return images["image_id"].tolist()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_stored_regions_are_the_encoders(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    images = table(5, 3, 8, 0, 1)
    features.write_regions(tmp_path / "store", Pictures(root), images, TRANSFORM, encoder, 2)
    features.write_pixels(tmp_path / "pixels", Pictures(root), images, TRANSFORM)
    store, source = FeatureStore(tmp_path / "store", ids(images)), FeatureStore(tmp_path / "pixels", ids(images))
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(np.array(source.pixels)))
    assert isinstance(store.regions, np.memmap)
    assert (store.regions.dtype, store.regions.shape) == (np.float16, (5, encoder.regions, encoder.dim))
    assert (store.means.dtype, store.means.shape, store.dim) == (np.float16, (5, encoder.dim), encoder.dim)
    assert expected.std(0).max() > 0.1  # pictures differ
    np.testing.assert_allclose(store.regions, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(store.means, expected.mean(1), rtol=1e-3, atol=1e-4)
    assert (store.transform, store.ids, store.pixels) == (TRANSFORM, ids(images), None)


def test_stored_pixels_are_the_transforms(root: Path, tmp_path: Path) -> None:
    features.write_pixels(tmp_path / "store", Pictures(root), table(), TRANSFORM)
    store = FeatureStore(tmp_path / "store", ids(table()))
    expected = [TRANSFORM.pixels(Image.open(io.BytesIO(jpeg(i)))) for i in range(COUNT)]
    np.testing.assert_array_equal(store.pixels, expected)
    assert (store.means, store.regions) == (None, None)


def test_means_alone_are_those_beside_regions(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    features.write_means(tmp_path / "means", Pictures(root), table(), TRANSFORM, encoder, 4)
    features.write_regions(tmp_path / "both", Pictures(root), table(), TRANSFORM, encoder, 4)
    means, both = contents(tmp_path / "means"), contents(tmp_path / "both")
    assert means["means.npy"] == both["means.npy"]
    assert list(means) == ["index.json", "means.npy"]


def test_the_bytes_do_not_depend_on_threads(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    for threads in (1, 4):
        features.write_regions(tmp_path / f"{threads}", Pictures(root), table(), TRANSFORM, encoder, 3, threads=threads)
        features.write_pixels(tmp_path / f"p{threads}", Pictures(root), table(), TRANSFORM, threads=threads)
    assert contents(tmp_path / "1") == contents(tmp_path / "4")
    assert contents(tmp_path / "p1") == contents(tmp_path / "p4")


def test_a_fresh_process_writes_the_same_bytes(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    features.write_means(tmp_path / "here", Pictures(root), table(), TRANSFORM, encoder, 4)
    program = f"""
from captioning import compute
compute.pin(portable=True, threads=2)
import sys; from pathlib import Path; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_features import *
frozen = encoders.freeze(encoders.build("squeezenet1_1", transform=TRANSFORM, weights={{}}))
features.write_means(Path({str(tmp_path / "there")!r}), Pictures(Path({str(root)!r})), table(), TRANSFORM, frozen, 4)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


class Counting(Pictures):
    """Pictures that note who reads what, and when."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: Counter[str] = Counter()
        self.threads: set[int] = set()

    def read(self, file: str) -> bytes:
        self.reads[file] += 1
        self.threads.add(threading.get_ident())
        return super().read(file)


def test_each_picture_is_read_once_and_not_by_the_main_thread(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    pictures = Counting(root)
    features.write_regions(tmp_path / "store", pictures, table(), TRANSFORM, encoder, 4)
    assert pictures.reads == Counter(table()["file"])
    assert threading.get_ident() not in pictures.threads


class Watched(Encoder):
    """An encoder that notes what it is given."""

    def __init__(self, inner: Encoder) -> None:
        self.given: list[torch.Tensor] = []
        self.calls: list[int] = []
        self.clock = lambda: 0
        super().__init__(inner.name, inner.body, inner.transform)
        self.given.clear()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.given.append(pixels.clone())
        self.calls.append(self.clock())
        return super().forward(pixels)


@pytest.fixture
def watched(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(features, "folded", lambda given: given)
    return Watched(encoder)


def test_reading_ahead_is_bounded(root: Path, watched: Watched, tmp_path: Path) -> None:
    """While a batch is encoded, at most two more have been read."""
    pictures = Counting(root)
    watched.calls.clear()
    watched.clock = lambda: pictures.reads.total()
    features.write_means(tmp_path / "store", pictures, table(), TRANSFORM, watched, 1, threads=4)
    assert len(watched.calls) == COUNT
    assert all(read <= batch + 1 + 2 for batch, read in enumerate(watched.calls))


def test_a_row_does_not_depend_on_the_rows_behind_it(root: Path, watched: Watched, tmp_path: Path) -> None:
    """Kernels are chosen by the size of the batch, so that the last one is filled up."""
    for rows in (range(5), range(COUNT)):
        features.write_regions(tmp_path / f"{len(rows)}", Pictures(root), table(*rows), TRANSFORM, watched, 4)
    assert {len(pixels) for pixels in watched.given} == {4}
    few = FeatureStore(tmp_path / "5", ids(table(*range(5))))
    many = FeatureStore(tmp_path / f"{COUNT}", ids(table()))
    np.testing.assert_array_equal(few.regions, many.regions[:5])


@pytest.mark.parametrize("threads", [1, 4])
def test_a_corrupt_picture_is_named_and_nothing_is_left(
    root: Path, encoder: Encoder, tmp_path: Path, threads: int
) -> None:
    with pytest.raises(UserError, match=r"^images\.zip/bad\.jpg: "):
        features.write_means(
            tmp_path / "store", Pictures(root), table(0, 1, "bad", 2), TRANSFORM, encoder, 2, threads=threads
        )
    assert list(tmp_path.iterdir()) == []


def test_a_feature_too_large_for_half_precision_names_the_picture(root: Path, tmp_path: Path) -> None:
    loud = encoders.build("squeezenet1_1", transform=TRANSFORM, weights={})
    with torch.no_grad():
        for parameter in loud.parameters():
            parameter.mul_(20)
    with pytest.raises(UserError, match=r"^images\.zip/3\.jpg: a feature of \S+ is too large for float16"):
        features.write_means(tmp_path / "store", Pictures(root), table(3, 4), TRANSFORM, loud, 2)


def test_the_index_tells_what_is_in_the_store(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    features.write_means(tmp_path / "a", Pictures(root), table(1, 2), TRANSFORM, encoder, 2)
    other = encoders.build("squeezenet1_1", transform=TRANSFORM, weights={}, seed=1)
    features.write_means(tmp_path / "b", Pictures(root), table(1, 2), TRANSFORM, other, 2)
    one, two = (json.loads((tmp_path / name / "index.json").read_text()) for name in "ab")
    assert one["encoder"]["name"] == two["encoder"]["name"] == "squeezenet1_1"
    assert one["encoder"]["sha256"] != two["encoder"]["sha256"]
    assert one["arrays"]["means"]["sha256"] == hashlib.sha256((tmp_path / "a" / "means.npy").read_bytes()).hexdigest()


@pytest.fixture
def store(root: Path, tmp_path: Path) -> Path:
    features.write_pixels(tmp_path / "store", Pictures(root), table(1, 2, 3), TRANSFORM)
    return tmp_path / "store"


@pytest.mark.parametrize("given", [["id1", "id2"], ["id2", "id1", "id3"], ["id1", "id2", "id4"]])
def test_a_store_of_other_images_is_refused(store: Path, given: list[str]) -> None:
    with pytest.raises(UserError, match=r"made for other images.*run `dvc repro features`"):
        FeatureStore(store, given)


def test_files_that_are_not_what_the_index_says_are_refused(store: Path) -> None:
    pixels, index = store / "pixels.npy", store / "index.json"
    whole = pixels.read_bytes()

    def said() -> str:
        with pytest.raises(UserError) as fault:
            FeatureStore(store, ["id1", "id2", "id3"])
        return str(fault.value)

    pixels.write_bytes(whole[:-1])
    assert "pixels.npy: cannot be read" in said()
    np.save(pixels, np.zeros((2, 3, SIZE, SIZE), np.uint8))
    assert "pixels.npy: uint8 [2, 3, 64, 64], but index.json says uint8 [3, 3, 64, 64]" in said()
    np.save(pixels, np.zeros((3, 3, SIZE, SIZE), np.int8))
    assert "pixels.npy: int8" in said()
    pixels.unlink()
    assert "pixels.npy: no such file" in said()
    index.write_text("{}")
    assert "index.json: not of this version" in said()
    index.unlink()
    assert "index.json: no such file" in said()
