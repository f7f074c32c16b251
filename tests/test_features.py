"""The feature store: what is written is what is read, whatever the threads, and wherever it was stopped."""

import hashlib
import io
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioning.data.extraction import extraction
from captioning.data.extraction.extraction import Extractor, Stream
from captioning.system import compute, locks
from captioning.system.archives import ImageArchives, write_zip
from captioning.system.errors import UserError
from captioning.system.sealed import write_document
from captioning.vision.encoders import encoders
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features.encodings import drawn_features, mirrored_encoder, stored_encoder
from captioning.vision.features.placement import Resident
from captioning.vision.features.places import StoredPlaces
from captioning.vision.features.store import FeatureStore, Sharded
from captioning.vision.images import Transform
from tests.properties import examples

COUNT, SIZE = 11, 64
BOTH = ["means", "regions"]
TRANSFORM = Transform(SIZE, SIZE, "bilinear", (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(autouse=True)
def threads_of_torch() -> Iterator[None]:
    """A test may change how many they are."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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
    return frozen()


def frozen() -> Encoder:
    return encoders.freeze(encoders.build("squeezenet1_1", transform=TRANSFORM, weights={}))


def table(*rows: int | str) -> pd.DataFrame:
    chosen = rows or range(COUNT)
    return pd.DataFrame({"image_id": [f"id{i}" for i in chosen], "file": [f"images.zip/{i}.jpg" for i in chosen]})


def write(folder: Path, images: pd.DataFrame, extractor: Extractor, shard_size: int = 4) -> FeatureStore:
    fabric = compute.start(seed=1, threads=1, device="cpu", precision="32-true")
    extraction.write(folder, images, extractor, shard_size, folder.parent / "unfinished" / folder.name, fabric)
    return FeatureStore(folder, ids(images))


def everything(array: Sharded | None) -> np.ndarray:
    assert array is not None
    return array[np.arange(len(array))]


def ids(images: pd.DataFrame) -> list[str]:
    return images["image_id"].tolist()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_stored_regions_are_the_encoders(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    images, image_files = table(5, 3, 8, 0, 1), ImageArchives(root)
    store = write(tmp_path / "store", images, extraction.features(image_files, encoder, BOTH, 2), 2)
    source = write(tmp_path / "pixels", images, extraction.pixels(image_files, TRANSFORM, 2))
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(everything(source.pixels)))
    assert store.regions is not None
    assert store.means is not None
    assert all(isinstance(shard, np.memmap) for shard in store.regions.shards)
    assert (store.regions.dtype, store.regions.shape) == (np.float16, (5, encoder.regions, encoder.dim))
    assert (store.means.dtype, store.means.shape, store.dim) == (np.float16, (5, encoder.dim), encoder.dim)
    assert expected.std(0).max() > 0.1  # images differ
    np.testing.assert_allclose(everything(store.regions), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(everything(store.means), expected.mean(1), rtol=1e-3, atol=1e-4)
    assert (store.transform, store.ids, store.pixels) == (TRANSFORM, ids(images), None)


def test_vectors_at_boxes_and_those_of_the_mirrored_images_are_stored(
    root: Path, encoder: Encoder, tmp_path: Path
) -> None:
    """A trained encoder would pool its map so; the store gives both with their places."""
    images, image_files = table(5, 3, 8), ImageArchives(root)
    boxes = np.random.default_rng(1).random((3, 4, 4), dtype=np.float32)
    boxes.sort(2)
    of_files = dict(zip(images["file"], boxes, strict=True))
    store = write(
        tmp_path / "s", images, extraction.features(image_files, encoder, BOTH, 2, mirror=True, boxes=of_files)
    )
    source = write(tmp_path / "pixels", images, extraction.pixels(image_files, TRANSFORM, 2))
    store.places = source.places = StoredPlaces(np.ones((3, 4), bool), boxes, np.zeros((3, 2), np.int64))
    rows = np.array([2, 0])
    for mirrored in (False, True):
        view = mirrored_encoder if mirrored else stored_encoder
        with torch.inference_mode():
            read, computed = (view(one, encoder, torch.device("cpu"))(rows) for one in (store, source))
        for here, there in zip(read, computed, strict=True):
            assert here is not None
            torch.testing.assert_close(here, there, atol=2e-3, rtol=2e-3)
    assert store.regions is not None
    assert store.regions.shape == (3, 4, encoder.dim)
    plain = stored_encoder(store, encoder, torch.device("cpu"))(rows).regions
    assert plain is not None
    assert read.regions is not None
    assert (plain - read.regions).abs().max() > 0.05  # the mirrored images have other vectors


def test_stored_pixels_are_the_transforms(root: Path, tmp_path: Path) -> None:
    store = write(tmp_path / "store", table(), extraction.pixels(ImageArchives(root), TRANSFORM, 4))
    expected = [TRANSFORM.pixels(Image.open(io.BytesIO(jpeg(i)))) for i in range(COUNT)]
    np.testing.assert_array_equal(everything(store.pixels), expected)
    assert (store.means, store.regions) == (None, None)


def test_means_alone_are_those_beside_regions(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    for name, keep in (("means", ["means"]), ("both", BOTH)):
        write(tmp_path / name, table(), extraction.features(ImageArchives(root), encoder, keep, 4))
    means, both = contents(tmp_path / "means"), contents(tmp_path / "both")
    shards = [f"means-{index:05}.npy" for index in range(3)]
    assert [means[name] for name in shards] == [both[name] for name in shards]
    assert list(means) == ["index.json", *shards]


def test_mirrored_features_are_the_encoders_of_the_mirrored_pixels(
    root: Path, encoder: Encoder, tmp_path: Path
) -> None:
    """Each image is read once; what is stored of the upright ones is the same to the byte."""
    images = Counting(root)
    store = write(tmp_path / "both", table(), extraction.features(images, encoder, BOTH, 4, mirror=True))
    assert images.reads == Counter(table()["file"])
    plain = write(tmp_path / "plain", table(), extraction.features(ImageArchives(root), encoder, BOTH, 4))
    source = write(tmp_path / "pixels", table(), extraction.pixels(ImageArchives(root), TRANSFORM, 4))
    assert (plain.mirrored_means, plain.mirrored_regions) == (None, None)
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(everything(source.pixels)[..., ::-1].copy()))
    np.testing.assert_allclose(everything(store.mirrored_regions), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(everything(store.mirrored_means), expected.mean(1), rtol=1e-3, atol=1e-4)
    assert np.abs(everything(store.mirrored_means) - everything(store.means)).max() > 1e-3
    both = contents(tmp_path / "both")
    assert all(both[name] == data for name, data in contents(tmp_path / "plain").items() if name != "index.json")


@pytest.mark.parametrize("resident", [False, True])
@given(mirrored=st.lists(st.booleans(), min_size=1, max_size=COUNT))
def test_each_row_is_upright_or_mirrored_as_drawn(mirrored: list[bool], resident: bool) -> None:
    generator = np.random.default_rng(0)
    names = ("means", "mirrored_means", "regions", "mirrored_regions")
    whole = {name: generator.random((COUNT, 2, 3)).astype(np.float16) for name in names}
    arrays = {name: Sharded([array[:4], array[4:8], array[8:]], 4) for name, array in whole.items()}
    if resident:
        arrays = {name: Resident(array, torch.device("cpu")) for name, array in arrays.items()}  # type: ignore[misc]
    rows, drawn = generator.permutation(COUNT)[: len(mirrored)], np.array(mirrored)
    store: Any = SimpleNamespace(places=None, tags=None, neighbours=None, **arrays)
    for found, name in zip(drawn_features(store, rows, drawn), names[::2], strict=True):
        expected = np.where(drawn[:, None, None], whole[f"mirrored_{name}"][rows], whole[name][rows])
        np.testing.assert_array_equal(found.numpy(), expected)


@examples(40)
@given(count=st.integers(1, 30), size=st.integers(1, 12), chosen=st.lists(st.integers(0, 10**6), max_size=20))
def test_rows_are_gathered_over_shards_in_any_order(count: int, size: int, chosen: list[int]) -> None:
    whole = np.random.default_rng(count).random((count, 2, 3), dtype=np.float32)
    array = Sharded([whole[start : start + size] for start in range(0, count, size)], size)
    rows = np.array([row % count for row in chosen], dtype=np.int64)
    assert (array.shape, array.dtype) == (whole.shape, whole.dtype)
    np.testing.assert_array_equal(array[rows], whole[rows])


@pytest.mark.parametrize("keep", [["means"], BOTH])
def test_shards_cut_the_same_rows(root: Path, encoder: Encoder, tmp_path: Path, keep: list[str]) -> None:
    """A shard is rounded up to whole batches, so that no row depends on where the cuts are."""
    one, many = (
        write(tmp_path / f"{size}", table(), extraction.features(ImageArchives(root), encoder, keep, 2), size)
        for size in (COUNT, 3)
    )
    assert many.means is not None
    assert [len(shard) for shard in many.means.shards] == [4, 4, 3]
    for name in keep:
        np.testing.assert_array_equal(everything(getattr(one, name)), everything(getattr(many, name)))


def test_the_bytes_do_not_depend_on_threads(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    for threads in (1, 4):
        images = ImageArchives(root)
        write(tmp_path / f"{threads}", table(), extraction.features(images, encoder, BOTH, 3, threads=threads))
        write(tmp_path / f"p{threads}", table(), extraction.pixels(images, TRANSFORM, 3, threads=threads))
    assert contents(tmp_path / "1") == contents(tmp_path / "4")
    assert contents(tmp_path / "p1") == contents(tmp_path / "p4")


def test_a_fresh_process_writes_the_same_bytes(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    write(tmp_path / "here", table(), extraction.features(ImageArchives(root), encoder, ["means"], 4))
    program = f"""
from captioning.system import compute
compute.pin(portable=True, threads=2)
import sys; from pathlib import Path; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_features import *
there = extraction.features(ImageArchives(Path({str(root)!r})), frozen(), ["means"], 4)
write(Path({str(tmp_path / "there")!r}), table(), there)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


class StoppedError(Exception):
    pass


def stopping(extractor: Extractor, last: int) -> Extractor:
    """An extractor that fails after `last` batches."""

    def extract(files: list[str]) -> Stream:
        for count, batch in enumerate(extractor.extract(files)):
            if count == last:
                raise StoppedError
            yield batch

    return replace(extractor, extract=extract)


def test_stopped_at_any_batch_it_goes_on_and_writes_the_same_bytes(
    root: Path, encoder: Encoder, tmp_path: Path
) -> None:
    """Shards of two batches: what was whole is read from the archive no second time."""
    write(tmp_path / "whole", table(), extraction.features(ImageArchives(root), encoder, BOTH, 2))
    for last in range(-(-COUNT // 2)):
        store, images = tmp_path / f"{last}", Counting(root)
        with pytest.raises(StoppedError):
            write(store, table(), stopping(extraction.features(ImageArchives(root), encoder, BOTH, 2), last))
        assert not store.exists()
        (tmp_path / f"unfinished/{last}/store/.means-00001.npy.7.tmp").write_bytes(b"cut")  # as SIGKILL leaves it
        write(store, table(), extraction.features(images, encoder, BOTH, 2))
        assert contents(store) == contents(tmp_path / "whole")
        assert images.reads.total() == COUNT - last // 2 * 4
        again = Counting(root)
        write(store, table(), extraction.features(again, encoder, BOTH, 2))
        assert not again.reads  # a whole store is taken up as it is
        assert contents(store) == contents(tmp_path / "whole")


def test_one_whole_store_stays_in_the_scratch_folder_unless_it_is_in_use(
    root: Path, encoder: Encoder, tmp_path: Path
) -> None:
    """Its files are those of the store under second names; what is unfinished stays too."""
    extractor = extraction.features(ImageArchives(root), encoder, BOTH, 2)
    with pytest.raises(StoppedError):
        write(tmp_path / "stopped", table(), stopping(extractor, 3))
    for name in ("first", "second"):
        write(tmp_path / name, table(), extractor)
    assert names(tmp_path / "unfinished") == ["second", "stopped"]
    assert (tmp_path / "second/means-00000.npy").samefile(tmp_path / "unfinished/second/store/means-00000.npy")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    with locks.alone(tmp_path / "unfinished/.second.lock"):
        write(tmp_path / "third", table(), extractor)
    assert names(tmp_path / "unfinished") == ["second", "stopped", "third"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_a_spoilt_shard_in_the_scratch_folder_is_made_anew(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    extractor = extraction.features(ImageArchives(root), encoder, BOTH, 2)
    write(tmp_path / "whole", table(), extractor, 2)
    with pytest.raises(StoppedError):
        write(tmp_path / "store", table(), stopping(extractor, 3), 2)
    shard = tmp_path / "unfinished/store/store/regions-00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1])
    write(tmp_path / "store", table(), extractor, 2)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_a_machine_that_does_not_share_the_folder_is_noticed(root: Path, tmp_path: Path) -> None:
    """Rank 0 of two, whose neighbour writes elsewhere."""
    fabric = SimpleNamespace(global_rank=0, world_size=2, is_global_zero=True, barrier=lambda: None)
    extractor = extraction.features(ImageArchives(root), frozen(), ["means"], 2)
    with pytest.raises(UserError, match=r"records/00001\.json: no such file; all machines must share this folder"):
        extraction.write(tmp_path / "store", table(), extractor, 2, tmp_path / "unfinished", fabric)  # type: ignore[arg-type]


class Counting(ImageArchives):
    """Images that note who reads what, and when."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: Counter[str] = Counter()
        self.threads: set[int] = set()

    def read(self, file: str) -> bytes:
        self.reads[file] += 1
        self.threads.add(threading.get_ident())
        return super().read(file)


def test_each_image_is_read_once_and_not_by_the_main_thread(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    images = Counting(root)
    write(tmp_path / "store", table(), extraction.features(images, encoder, BOTH, 4))
    assert images.reads == Counter(table()["file"])
    assert threading.get_ident() not in images.threads


class Watched(Encoder):
    """An encoder that notes what it is given, how many threads torch has then, and how many calls it is in at once."""

    def __init__(self, inner: Encoder) -> None:
        self.given: list[torch.Tensor] = []
        self.threads: list[int] = []
        self.calls: list[int] = []
        self.most = 0
        self.meeting: threading.Barrier | None = None
        super().__init__(inner.name, inner.body, inner.transform)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.given.append(pixels.clone())
        self.threads.append(torch.get_num_threads())
        self.calls.append(1)
        self.most = max(self.most, len(self.calls))
        if self.meeting is not None:
            self.meeting.wait(timeout=60)
        found = super().forward(pixels)
        self.calls.pop()
        return found


@pytest.fixture
def watched(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setattr(extraction, "folded", lambda given: given)
    return Watched(encoder)


@pytest.mark.parametrize("threads", [1, 3])
def test_reading_ahead_is_bounded(root: Path, encoder: Encoder, threads: int) -> None:
    """No more batches than there are threads, and two, are read beyond those that were taken."""
    images = Counting(root)
    extractor = extraction.features(images, encoder, ["means"], 1, threads=threads)
    for taken, _ in enumerate(extractor.extract(table()["file"].tolist())):
        assert images.reads.total() <= taken + threads + 2


def test_as_many_threads_encode_as_torch_may_have_each_on_one_core(
    root: Path, watched: Watched, tmp_path: Path
) -> None:
    """Twelve images: batches of three meet in pairs, though four threads could encode; torch has its threads back."""
    watched.meeting = threading.Barrier(2)
    images = table(*range(COUNT), 0)
    extractor = extraction.features(ImageArchives(root), watched, ["means"], 3, threads=4)
    fabric = compute.start(seed=1, threads=2, device="cpu", precision="32-true")
    extraction.write(tmp_path / "store", images, extractor, 3, tmp_path / "unfinished/store", fabric)
    assert (watched.threads, watched.most) == ([1] * 4, 2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("threads", [1, 3])
def test_the_bytes_do_not_depend_on_how_many_threads_torch_has(
    root: Path, encoder: Encoder, tmp_path: Path, threads: int
) -> None:
    write(tmp_path / "two", table(), extraction.features(ImageArchives(root), encoder, BOTH, 3))
    fabric = compute.start(seed=1, threads=threads, device="cpu", precision="32-true")
    extractor = extraction.features(ImageArchives(root), encoder, BOTH, 3)
    extraction.write(tmp_path / "other", table(), extractor, 4, tmp_path / "unfinished/other", fabric)
    assert contents(tmp_path / "other") == contents(tmp_path / "two")


def test_a_row_does_not_depend_on_the_rows_behind_it(root: Path, watched: Watched, tmp_path: Path) -> None:
    """Kernels are chosen by the size of the batch, so that the last one is filled up."""
    for rows in (range(5), range(COUNT)):
        write(tmp_path / f"{len(rows)}", table(*rows), extraction.features(ImageArchives(root), watched, BOTH, 4))
    assert {len(pixels) for pixels in watched.given} == {4}
    few = FeatureStore(tmp_path / "5", ids(table(*range(5))))
    many = FeatureStore(tmp_path / f"{COUNT}", ids(table()))
    np.testing.assert_array_equal(everything(few.regions), everything(many.regions)[:5])


@pytest.mark.parametrize("threads", [1, 4])
def test_a_corrupt_image_is_named_and_nothing_is_left(
    root: Path, encoder: Encoder, tmp_path: Path, threads: int
) -> None:
    extractor = extraction.features(ImageArchives(root), encoder, ["means"], 2, threads=threads)
    with pytest.raises(UserError, match=r"^images\.zip/bad\.jpg: "):
        write(tmp_path / "store", table(0, 1, "bad", 2), extractor)
    assert not (tmp_path / "store").exists()
    assert list((tmp_path / "unfinished/store/store").iterdir()) == []


def test_a_feature_too_large_for_half_precision_names_the_image(root: Path, tmp_path: Path) -> None:
    loud = encoders.build("squeezenet1_1", transform=TRANSFORM, weights={})
    with torch.no_grad():
        for parameter in loud.parameters():
            parameter.mul_(20)
    with pytest.raises(UserError, match=r"^images\.zip/3\.jpg: a feature of \S+ overflows float16"):
        write(tmp_path / "store", table(3, 4), extraction.features(ImageArchives(root), loud, ["means"], 2))


def test_the_index_tells_what_is_in_the_store(root: Path, encoder: Encoder, tmp_path: Path) -> None:
    other = encoders.build("squeezenet1_1", transform=TRANSFORM, weights={}, seed=1)
    for name, used in (("a", encoder), ("b", other)):
        write(tmp_path / name, table(1, 2, 3), extraction.features(ImageArchives(root), used, ["means"], 2), 2)
    one, two = (json.loads((tmp_path / name / "index.json").read_text()) for name in "ab")
    assert one["encoder"]["name"] == two["encoder"]["name"] == "squeezenet1_1"
    assert one["encoder"]["sha256"] != two["encoder"]["sha256"]
    for file, said in one["arrays"]["means"].items():
        assert said["sha256"] == hashlib.sha256((tmp_path / "a" / file).read_bytes()).hexdigest()
    assert [said["shape"][0] for said in one["arrays"]["means"].values()] == [2, 1]


@pytest.fixture
def store(root: Path, tmp_path: Path) -> Path:
    write(tmp_path / "store", table(1, 2, 3), extraction.pixels(ImageArchives(root), TRANSFORM, 4))
    return tmp_path / "store"


@pytest.mark.parametrize("given", [["id1", "id2"], ["id2", "id1", "id3"], ["id1", "id2", "id4"]])
def test_a_store_of_other_images_is_refused(store: Path, given: list[str]) -> None:
    with pytest.raises(UserError, match=r"made for other images.*run `dvc repro -f features`"):
        FeatureStore(store, given)


def test_files_that_are_not_what_the_index_says_are_refused(store: Path) -> None:
    pixels, index = store / "pixels-00000.npy", store / "index.json"
    whole = pixels.read_bytes()

    def said() -> str:
        with pytest.raises(UserError) as fault:
            FeatureStore(store, ["id1", "id2", "id3"])
        return str(fault.value)

    pixels.write_bytes(whole[:-1])
    assert "pixels-00000.npy: cannot be read" in said()
    np.save(pixels, np.zeros((2, 3, SIZE, SIZE), np.uint8))
    assert "pixels-00000.npy: uint8 [2, 3, 64, 64], but index.json says uint8 [3, 3, 64, 64]" in said()
    np.save(pixels, np.zeros((3, 3, SIZE, SIZE), np.int8))
    assert "pixels-00000.npy: int8" in said()
    pixels.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "pixels-00000.npy: damaged" in said()
    pixels.unlink()
    assert "pixels-00000.npy: no such file" in said()
    written = index.read_text()
    index.write_text(written.replace('"id1"', '"id4"'))
    assert "index.json: damaged" in said()
    write_document(index, {**json.loads(written), "format": 1})
    assert "index.json: not of this version" in said()
    index.unlink()
    assert "index.json: no such file" in said()
