"""The published layouts of objects: what is written is read back, and what is damaged is refused in one line."""

import base64
import json
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.data.objects import vectors
from captioning.data.objects.labels import (
    Found,
    Predicted,
    read_labels,
    read_prediction,
    read_sizes,
    write_labels,
    write_predictions,
    write_sizes,
)
from captioning.data.objects.rows import Table
from captioning.data.objects.sources import read_sources, write_sources
from captioning.data.objects.vectors import PUBLISHED, box_code, read_vectors, with_code, write_vectors
from captioning.system.errors import UserError
from captioning.vision.encoders.at_boxes import CODE
from tests.photographs import REAL
from tests.properties import examples

WIDTH = 4 + CODE  # of the vectors here: published ones are wider
KEYS = st.text("abz019_-é", min_size=1, max_size=8)
SIDES = st.integers(0, 5000).map(lambda tenth: tenth / 10)
BOXES = st.tuples(SIDES, SIDES, SIDES, SIDES).map(lambda b: (b[0], b[1], b[0] + b[2] + 0.1, b[1] + b[3] + 0.1))
BOXES = BOXES.map(lambda box: tuple(round(side, 1) for side in box))
FOUND = st.builds(
    Found, st.sampled_from(["dog", "traffic light", "Fußball"]), st.integers(0, 100).map(lambda c: c / 100), BOXES
)
LABELS = st.dictionaries(KEYS, st.lists(FOUND, max_size=4), max_size=5)
NUMBERS = st.floats(-100, 100, width=16)


def arrays() -> st.SearchStrategy[np.ndarray]:
    return st.integers(0, 3).flatmap(
        lambda n: st.lists(NUMBERS, min_size=n * WIDTH, max_size=n * WIDTH).map(
            lambda flat: np.array(flat, np.float32).reshape(-1, WIDTH)
        )
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


def refused(said: str) -> AbstractContextManager[object]:
    """The block raises a UserError of one line that matches."""
    return pytest.raises(UserError, match=rf"\A(?=[^\n]*\Z).*(?:{said})")


@contextmanager
def read_or_refused(path: Path) -> Iterator[None]:
    """The block may raise UserError, of one line that names file and line."""
    try:
        yield
    except UserError as fault:
        told = str(fault)
        if not re.match(rf"{re.escape(str(path))}, line [1-9][:,][^\n]*\Z", told):
            raise AssertionError(told) from fault


def labels(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())
    return path


@given(written=LABELS)
def test_labels_are_read_as_they_were_written_best_first(folder: Path, written: dict[str, list[Found]]) -> None:
    write_labels(folder / "label.tsv", written)
    expected = {key: sorted(objects, key=lambda one: -one.score) for key, objects in written.items()}
    assert read_labels(folder / "label.tsv") == expected
    offsets = [int(line) for line in (folder / "label.lineidx").read_text().splitlines()]
    data = (folder / "label.tsv").read_bytes()
    assert [data[offset:].split(b"\t")[0].decode() for offset in offsets] == list(written)


@given(written=st.dictionaries(KEYS, arrays(), min_size=1, max_size=4), half=st.booleans())
def test_vectors_are_read_as_they_were_written(folder: Path, written: dict[str, np.ndarray], half: bool) -> None:
    """Of float16 as of float32: the numbers here are exact in both."""
    write_vectors(folder / "own.feature.tsv", written.items(), half=half)
    table = Table(folder / "own.feature.tsv")
    assert table.keys == list(written)
    for row in table:
        found = read_vectors(row, WIDTH)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, written[row.key])


@examples(50)
@given(written=st.dictionaries(KEYS, arrays(), min_size=1, max_size=3), data=st.data())
def test_damaged_bytes_are_refused_with_file_and_line_or_read_as_numbers(
    folder: Path, written: dict[str, np.ndarray], data: st.DataObject
) -> None:
    """Nothing but UserError comes of a flipped bit or a cut, and no shape is another one."""
    path = folder / "damaged.feature.tsv"
    write_vectors(path, written.items())
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del whole[place:]
    path.write_bytes(whole)
    path.with_suffix(".lineidx").unlink()

    with read_or_refused(path):
        assert {read_vectors(row, WIDTH).shape[1] for row in Table(path)} <= {WIDTH}


@given(cut=st.integers(0, 200))
def test_a_cut_label_file_loses_whole_rows_or_is_refused(folder: Path, cut: int) -> None:
    written = {"a": [Found("dog", 0.9, (0.0, 0.0, 5.0, 5.0))], "b": [Found("cat", 0.5, (1.0, 1.0, 2.0, 2.0))] * 2}
    path = folder / "cut.tsv"
    write_labels(path, written)
    path.with_suffix(".lineidx").unlink()
    path.write_bytes(path.read_bytes()[:cut])
    with read_or_refused(path):
        found = read_labels(path)
        assert found == {key: written[key] for key in list(written)[: len(found)]}


def test_both_layouts_of_vectors_are_read(tmp_path: Path) -> None:
    numbers = np.arange(2 * PUBLISHED, dtype=np.float32).reshape(2, -1) / 8
    for kind in ("<f4", "<f2"):
        text = base64.b64encode(numbers.astype(kind).tobytes()).decode()
        wide = labels(tmp_path / "a.tsv", f"1\t2\t{text}")
        named = labels(tmp_path / "b.tsv", "1\t" + json.dumps({"num_boxes": 2, "features": text}), end="\r\n")
        for path in (wide, named):
            np.testing.assert_array_equal(read_vectors(Table(path)["1"]), numbers.astype(kind).astype(np.float32))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1", "line 2: not a key, a tab"),
        ("\t[]", "line 2: not a key, a tab"),
        ("0\t[]", "line 2: 0 is on line 1 too"),
        ("1\t[]\t[]", "line 2: 3 columns"),
        ("1\t[", "line 2: Invalid JSON"),
        ('1\t{"class": "dog"}', "line 2, objects: Field required"),
        ('1\t[{"class": "dog"}]', "line 2, 0 rect: Field required"),
        ('1\t[{"rect": [1, 2, 3, 4]}]', "line 2, 0 class: Field required"),
        ('1\t[{"class": "dog", "rect": [1, 2, 3]}]', "line 2, 0 rect"),
        ('1\t[{"class": "dog", "rect": [1, 2, 3, NaN]}]', "line 2, 0 rect 3: .*finite"),
        ('1\t[{"class": "dog", "rect": [1, 2, 3, "4"]}]', "line 2, 0 rect 3: .*number"),
        ('1\t[{"class": "dog", "rect": [3, 2, 1, 4]}]', r"line 2: the rect \[3.0, 2.0, 1.0, 4.0\] of dog is empty"),
        ('1\t[{"class": "dog", "conf": 1.5, "rect": [1, 2, 3, 4]}]', "line 2, 0 conf"),
        ('1\t[{"class": " ", "rect": [1, 2, 3, 4]}]', "line 2, 0 class"),
        ('1\t[{"class": "a\\u001bb", "rect": [1, 2, 3, 4]}]', "line 2: the class .*control character"),
    ],
)
def test_malformed_labels_are_refused_with_their_line(tmp_path: Path, line: str, said: str) -> None:
    path = labels(tmp_path / "label.tsv", "0\t[]", line)
    with refused(f"{re.escape(str(path))}, {said}"):
        read_labels(path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"num_boxes": 1, "features": "AAAA" * 11}, "33 bytes are not 1 vectors of 10 numbers, float32 or float16"),
        ({"num_boxes": 2, "features": "AAAA" * 10}, "30 bytes are not 2 vectors"),
        ({"num_boxes": 10**9, "features": ""}, "num_boxes: .*1000"),
        ({"num_boxes": 1, "features": "!!!!" * 6 + "AA=="}, "19 bytes are not 1"),
        ({"num_boxes": 3, "features": "!!!!" * 20}, "line 1: not base64"),
        ({"num_boxes": 3, "features": "=AAA" * 20}, "line 1: not base64"),
        ({"num_boxes": 3, "features": "/////////w==" + "AAAA" * 17 + "AAA="}, "line 1"),
        ({"features": ""}, "num_boxes: Field required"),
    ],
)
def test_malformed_vectors_are_refused_before_they_are_decoded(tmp_path: Path, columns: dict, said: str) -> None:
    path = labels(tmp_path / "feature.tsv", "1\t" + json.dumps(columns))
    with refused(said):
        read_vectors(Table(path)["1"], WIDTH)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_vectors(tmp_path / "f.tsv", [("1", np.full((1, WIDTH), np.inf, np.float32))])
    with refused("f.tsv, line 1: a number is not finite"):
        read_vectors(Table(tmp_path / "f.tsv")["1"], WIDTH)


@pytest.mark.parametrize("columns", ["1\tx\tAAAA", "1\t-1\t", "1\t99999\t", "1\t1\tAA==\tAA==", "1\t²\tAAAA"])
def test_malformed_columns_of_the_pretraining_layout_are_refused(tmp_path: Path, columns: str) -> None:
    path = labels(tmp_path / "features.tsv", columns)
    with refused("features.tsv, line 1: not a key, a number of boxes up to 1000 and base64"):
        read_vectors(Table(path)["1"], WIDTH)


def test_an_index_that_is_not_that_of_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "label.tsv"
    write_labels(path, {"a": [], "b": []})
    beside = path.with_suffix(".lineidx")
    for written, said in (("0\n4\n", "line 2: no row begins there"), ("0\n", ": 1 rows, and there are 2")):
        beside.write_text(written)
        with refused(f"label.lineidx{'' if said[0] == ':' else ', '}{said}"):
            read_labels(path)
    beside.unlink()
    assert read_labels(path) == {"a": [], "b": []}


def test_text_that_is_not_utf_8_and_rows_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "label.tsv"
    path.write_bytes(b"a\t[]\nb\xe9\t[]\n")
    with refused("label.tsv, line 2: not UTF-8"):
        read_labels(path)
    monkeypatch.setattr("captioning.data.objects.rows._LONGEST", 8)
    path.write_bytes(b"a\t" + b"[" * 100)
    with refused("label.tsv, line 1: longer than 8 bytes"):
        read_labels(path)
    with refused("absent.tsv: cannot be read"):
        read_labels(tmp_path / "absent.tsv")


def test_the_box_code_is_oscars() -> None:
    code = box_code([(10, 20, 60, 100)], (100, 200))
    np.testing.assert_allclose(code, [[0.1, 0.1, 0.6, 0.5, 0.5, 0.4]], rtol=1e-6)
    assert box_code([], (3, 4)).shape == (0, CODE)


def test_predictions_are_read_back_and_get_their_box_code(tmp_path: Path) -> None:
    found = [Found("dog", 0.5, (0.0, 0.0, 10.0, 5.0)), Found("cat", 0.9, (5.0, 5.0, 10.0, 10.0))]
    own = np.arange(8, dtype=np.float32).reshape(2, 4)
    texts: list[str | None] = [vectors.encoded(row[None], half=False) for row in own]
    write_predictions(tmp_path / "predictions.tsv", [("7", Predicted(found, texts))])
    row = Table(tmp_path / "predictions.tsv")["7"]
    predicted = read_prediction(row)
    assert predicted == Predicted(found, texts)
    expected = np.concatenate([own, box_code([one.box for one in found], (10, 10))], axis=1)
    np.testing.assert_array_equal(with_code(predicted, (10, 10), row.location, 4), expected)
    assert read_labels(tmp_path / "predictions.tsv") == {"7": found[::-1]}  # best first
    with refused("line 1: the object 2 has no feature"):
        with_code(Predicted(found, [texts[0], None]), (10, 10), row.location, 4)
    with refused("line 1: 16 bytes are not 1 vectors of 5 numbers"):
        with_code(predicted, (10, 10), row.location, 5)


def test_sizes_of_images_are_read_back(tmp_path: Path) -> None:
    write_sizes(tmp_path / "hw.tsv", {"a": (640, 480)})
    assert read_sizes(tmp_path / "hw.tsv") == {"a": (640, 480)}
    assert (tmp_path / "hw.tsv").read_text() == 'a\t[{"height": 480, "width": 640}]\n'
    with refused("hw.tsv, line 1, 0 height"):
        read_sizes(labels(tmp_path / "hw.tsv", 'a\t[{"height": 0, "width": 640}]'))


def test_the_yaml_names_files_beside_it(tmp_path: Path) -> None:
    files = {"label": tmp_path / "train.label.tsv", "feature": tmp_path / "model/train.feature.tsv"}
    write_sources(tmp_path / "train.yaml", files)
    assert read_sources(tmp_path / "train.yaml") == files
    for text, said in (
        ("labels: x.tsv", "'labels' is none of label"),
        ("label: ../x.tsv", "label: '../x.tsv' is not the name of a file beside it"),
        ("label: /x.tsv", "label: '/x.tsv' is not"),
        ("label: [a, b]", "label: .* is not the name"),
        ("label:", "label: None is not"),
        ("- a", "expected `key: name` lines"),
        ("label: [", "not YAML"),
        ("label: a\nlabel: b", "not YAML .*Duplicate_keys"),
    ):
        (tmp_path / "train.yaml").write_text(f"{text}\n")
        with refused(f"train.yaml: {said}"):
            read_sources(tmp_path / "train.yaml")


@pytest.mark.skipif(not (REAL / "flickr8k/label.tsv").is_file(), reason="no shared data here")
def test_a_published_label_file_is_read(tmp_path: Path) -> None:
    found = read_labels(REAL / "coco2017_mini/label_val.tsv")
    assert len(found) == 79
    assert found["000000000139"][0].name == "tv"
    assert all(one.score >= two.score for of in found.values() for one, two in pairwise(of))
    write_labels(tmp_path / "again.tsv", found)
    assert read_labels(tmp_path / "again.tsv") == found


def test_a_pipe_is_no_table() -> None:
    """Rows are looked up, which a pipe does not allow."""
    reading, writing = os.pipe()
    os.close(writing)
    with pytest.raises(UserError, match=rf"^/dev/fd/{reading}: not a file; save what it says"):
        read_labels(Path(f"/dev/fd/{reading}"))
    os.close(reading)
