"""Images that two splits share: planted ones are found, different ones are not, and the search misses nothing."""

import io
from collections.abc import Iterator, Mapping
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from captioning.data.card import fingerprints, leakage
from captioning.data.card.fingerprints import RADIUS, Fingerprints, nearest
from captioning.data.splits import splits
from captioning.system.archives import Archive, ImageArchives, write_zip
from captioning.system.errors import UserError
from tests.test_flickr8k import REAL


def photograph(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Shapes on a sky: as different from one another as photographs are."""
    random = np.random.default_rng(seed)
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    pen = ImageDraw.Draw(image)
    for _ in range(25):
        x, y = random.integers(-20, size[0]), random.integers(-20, size[1])
        w, h = random.integers(10, 120, 2)
        pen.ellipse((x, y, x + w, y + h), fill=tuple(random.integers(0, 256, 3).tolist()))
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def leaks(folder: Path, members: Mapping[str, bytes], **captions: list[str]) -> tuple[pd.DataFrame, Fingerprints]:
    """What is found among images that are named SPLIT_NUMBER; each has a caption of its own unless one is given."""
    write_zip(folder / "a.zip", members.items())
    rows = [
        (name, f"a.zip/{name}", caption, name.partition("_")[0])
        for name in members
        for caption in captions.get(name, [f"image {name}"])
    ]
    table = splits.assign(pd.DataFrame(rows, columns=["image_id", "file", "caption", "split"]))
    images = splits.image_table(table)
    with ImageArchives(folder) as image_files:
        known = fingerprints.read(image_files, images["file"].tolist(), threads=2)
    return leakage.find(table, images, known), known


def unrelated() -> dict[str, bytes]:
    """Twelve images, four a split."""
    return {
        f"{split}_{index}": encoded(photograph(4 * start + index))
        for start, split in enumerate(splits.SPLITS)
        for index in range(4)
    }


def test_nothing_is_found_among_different_images(tmp_path: Path) -> None:
    found, known = leaks(tmp_path, unrelated())
    assert found.empty
    assert not known.plain.any()


COPIES = {
    "smaller": lambda image: encoded(image.resize((130, 97)), quality=60),
    "larger": lambda image: encoded(image.resize((901, 677)), quality=85),
    "without loss": lambda image: encoded(image, "PNG"),
    "squeezed": lambda image: encoded(image.resize((224, 224)), quality=40),
    "grey": lambda image: encoded(image.convert("L")),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.2)),
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_copy_in_another_split_is_found(tmp_path: Path, copy: str, split: str) -> None:
    members = unrelated() | {f"{split}_copy": COPIES[copy](photograph(2))}
    found, _ = leaks(tmp_path, members)
    assert found[["split", "image_id", "other_split", "other_id", "kind"]].to_numpy().tolist() == [
        [split, f"{split}_copy", "train", "train_2", "look"]
    ]
    assert 0 <= found["bits"].item() <= RADIUS


def test_a_mirror_image_is_another_image(tmp_path: Path) -> None:
    found, _ = leaks(tmp_path, unrelated() | {"test_mirror": encoded(ImageOps.mirror(photograph(2)))})
    assert found.empty


def test_an_image_turned_by_exif_is_compared_upright(tmp_path: Path) -> None:
    turned, exif = photograph(2).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter, clockwise
    found, _ = leaks(tmp_path, unrelated() | {"test_turned": encoded(turned, exif=exif)})
    assert found[["image_id", "other_id", "kind"]].to_numpy().tolist() == [["test_turned", "train_2", "look"]]


def test_the_same_file_is_found_once_and_named_as_such(tmp_path: Path) -> None:
    members = unrelated()
    found, _ = leaks(tmp_path, members | {"test_again": members["val_1"], "train_again": members["train_0"]})
    assert found.to_numpy().tolist() == [["test", "test_again", "val", "val_1", "bytes", 0]]


def test_images_of_one_colour_are_not_alike(tmp_path: Path) -> None:
    flat = {
        f"{split}_{level}": encoded(Image.new("RGB", (200, 150), (level, 90, 255 - level)))
        for split, levels in (("train", range(0, 250, 15)), ("val", range(5, 250, 15)), ("test", range(10, 250, 15)))
        for level in levels
    }
    found, known = leaks(tmp_path, flat)
    assert known.plain.all()
    assert found.empty
    found, _ = leaks(tmp_path, flat | {"test_same": flat["train_15"]})
    assert found[["image_id", "other_id", "kind"]].to_numpy().tolist() == [["test_same", "train_15", "bytes"]]


def test_a_set_of_captions_is_compared_by_its_words(tmp_path: Path) -> None:
    found, _ = leaks(
        tmp_path,
        unrelated(),
        train_0=["A dog runs.", "The dog!"],
        val_0=["the dog", "a dog , runs", "A DOG RUNS"],
        test_0=["A dog runs."],
    )
    assert found.to_numpy().tolist() == [["val", "val_0", "train", "train_0", "captions", 0]]


def test_the_report_counts_names_a_few_and_says_what_to_do(tmp_path: Path) -> None:
    members = unrelated()
    copies = {f"test_{index + 10}": members[f"train_{index}"] for index in range(4)}
    found, known = leaks(tmp_path, members | copies)
    images = pd.DataFrame({"split": [name.partition("_")[0] for name in members | copies]})
    assert leakage.report(found, images, known) == [
        "4 of 8 test images are in train too, the same file: "
        "test_10 = train_0, test_11 = train_1, test_12 = train_2, ...",
        "scores on these images are inflated; data/split/leaks.csv lists them: remove one image of each pair",
    ]
    described = leakage.describe(found, known)
    assert described["test_in_train"] == {"bytes": 4, "look": 0, "captions": 0}
    assert described["test_in_val"] == described["val_in_train"] == {"bytes": 0, "look": 0, "captions": 0}
    assert [example["image_id"] for example in described["examples"]] == ["test_10", "test_11", "test_12"]
    assert "by file, looks or captions (4 compared)" in leakage.report(found.head(0), images.head(4), known)[0]


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.zip/test_bad: not an image that can be decoded"):
        leaks(tmp_path, unrelated() | {"test_bad": b"no image"})


hashes = st.lists(st.integers(0, 2**256 - 1), min_size=1, max_size=8)


def test_a_part_of_ones_alone_is_found() -> None:
    ones = as_array([2**256 - 1])
    assert [found.tolist() for found in nearest(ones, ones)] == [[0], [0]]


@given(hashes, st.data())
def test_the_search_misses_nothing(index: list[int], data: st.DataObject) -> None:
    """Against all pairs; queries are hashes of the index with some bits flipped, about as many as the radius."""
    queries = []
    for _ in range(data.draw(st.integers(0, 8))):
        bits = data.draw(st.sets(st.integers(0, 255), max_size=2 * RADIUS))
        queries.append(data.draw(st.sampled_from(index)) ^ sum(1 << bit for bit in bits))
    row, distance = nearest(as_array(queries), as_array(index))
    for query, found, bits in zip(queries, row.tolist(), distance.tolist(), strict=True):
        all_distances = [(query ^ other).bit_count() for other in index]
        expected = min(all_distances)
        near = expected <= RADIUS
        assert (found, bits) == ((all_distances.index(expected), expected) if near else (-1, 0))


def as_array(values: list[int]) -> np.ndarray:
    return np.frombuffer(b"".join(value.to_bytes(32, "little") for value in values), "<u8").reshape(-1, 4)


@pytest.mark.parametrize("weak", range(16))
def test_the_search_finds_what_is_spread_worst(weak: int) -> None:
    """Two bits differ in each of the 16 parts, but for one part: 31 in all. One more is too many."""
    bits = {16 * part + (5 * part + weak + step) % 16 for part in range(16) for step in (0, 9)}
    most = sum(1 << bit for bit in bits)
    less = most & ~(1 << min(bit for bit in bits if bit // 16 == weak))
    row, distance = nearest(as_array([most, less]), as_array([2**256 - 1, 0]))
    assert (row.tolist(), distance.tolist()) == ([-1, 1], [0, 31])


@pytest.mark.parametrize("kind", ["different", "copies"])
def test_the_work_grows_with_the_images_not_with_their_square(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where half of the images are copies of one, and the others differ from it in a bit or two."""
    compared, size = 0, 20_000
    pairs = fingerprints._pairs

    def counted(start: np.ndarray, stop: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal compared
        for rows, places in pairs(start, stop):
            assert len(rows) <= fingerprints._CANDIDATES
            compared += len(rows)
            assert compared < size * size / 200
            yield rows, places

    monkeypatch.setattr(fingerprints, "_pairs", counted)
    if kind == "different":
        hashes = np.random.default_rng(1).integers(0, 2**64, (2 * size, 4), dtype=np.uint64)
    else:
        hashes = as_array([1 << a | 1 << b for a, b in islice(combinations(range(256), 2), size)] + [0] * size)
    row, _ = nearest(hashes[:size], hashes[size:])
    assert set(row.tolist()) == ({-1} if kind == "different" else {0})


@pytest.mark.skipif(not (REAL / "flickr8k").is_dir(), reason=f"no Flickr8k in {REAL} (CAPTIONING_TEST_DATA)")
def test_the_one_pair_of_flickr8k() -> None:
    """A kayaker was published under two names, both in no split; of 400 others no two look alike."""
    with Archive(REAL / "flickr8k" / "Flickr8k_Dataset.zip") as archive:
        names = ["2851198725_37b6027625.jpg", "3050606344_af711c726c.jpg"]
        names = [f"Flicker8k_Dataset/{name}" for name in names] + archive.names()[:400]
    with ImageArchives(REAL / "flickr8k") as images:
        known = fingerprints.read(images, [f"Flickr8k_Dataset.zip/{name}" for name in names])
    assert not known.plain.any()
    row, distance = nearest(known.bits[:1], known.bits[1:])
    assert (row.tolist(), distance.tolist()) == ([0], [0])
    assert (nearest(known.bits[2::2], known.bits[3::2])[0] == -1).all()
