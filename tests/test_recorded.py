"""Recorded files that are damaged: one line that names revision and file, never a traceback, whatever is in them."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.experiments import compare
from captioning.experiments.report import content, gallery, tables
from captioning.experiments.report import write as write_report
from captioning.system.errors import UserError
from tests import reports
from tests.properties import examples

CURVE = f"{content.CURVES}/val/cider.tsv"
INDEX = f"{gallery.ATTENTION}/index.json"
JSON_FILES = (compare.CAPTIONS, compare.REFERENCES, compare.BASELINES, INDEX)
READ = (*JSON_FILES, compare.PER_IMAGE, CURVE)
IMAGES = 3


def revision() -> reports.Kept:
    return reports.revision("mine", [reports.SAID[0]] * IMAGES, reports.archive(IMAGES), looked=True)


def everything(one: reports.Kept) -> None:
    """All that the report and a comparison read."""
    experiment = compare.read(one)
    tables.scores(compare.compare([experiment], draws=5))
    content.document([experiment], gallery.choose([experiment], 1, 0), 0)


def refused(one: reports.Kept, path: str) -> None:
    with pytest.raises(UserError) as caught:
        everything(one)
    line = str(caught.value)
    assert line.startswith("mine: ")
    assert path in line
    assert "\n" not in line
    assert len(line) <= 300, line


def test_what_this_version_writes_is_read() -> None:
    everything(revision())


@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize(
    "data", [b"", b"[1]", b"\xff", b'{"images":[{}]}', b"3", b"null", b'"text"', b"[[", b"{}", b"[{}]", b"\x00,\x00\n1"]
)
def test_a_file_of_another_kind_is_one_line(path: str, data: bytes) -> None:
    one = revision()
    one.files[path] = data
    if (path, data) == (compare.BASELINES, b"{}"):  # an old revision may have no baseline
        everything(one)
    elif (path, data) == (CURVE, b""):
        refused(one, path)
    else:
        refused(one, path)


def changed(path: str, change: Callable[[Any], None]) -> reports.Kept:
    """A revision with a JSON file in which one thing is otherwise."""
    one = revision()
    document = json.loads(one.files[path])
    change(document)
    one.files[path] = json.dumps(document).encode()
    return one


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (compare.CAPTIONS, lambda rows: rows[0].pop("caption")),
        (compare.CAPTIONS, lambda rows: rows[0].update(caption=None)),
        (compare.CAPTIONS, lambda rows: rows[0].update(image_id="1")),
        (compare.CAPTIONS, lambda rows: rows.pop()),
        (compare.REFERENCES, lambda document: document.update(images=[])),
        (compare.REFERENCES, lambda document: document.update(annotations=[])),
        (compare.REFERENCES, lambda document: document.pop("annotations")),
        (compare.REFERENCES, lambda document: document["annotations"][0].update(image_id=99)),
        (compare.REFERENCES, lambda document: document["images"][0].update(file_name=7)),
        (compare.BASELINES, lambda kept: kept["floor"].update(cider=float("nan"))),
        (compare.BASELINES, lambda kept: kept["floor"].update(cider=float("inf"))),
        (compare.BASELINES, lambda kept: kept.update(floor=0.5)),
        (compare.BASELINES, lambda kept: kept["floor"].update(cider="high")),
        (INDEX, lambda index: index.pop("pictures")),
        (INDEX, lambda index: index["pictures"][0].update(image_id="nonsuch")),
        (INDEX, lambda index: index["pictures"][0].pop("file")),
    ],
)
def test_a_missing_key_or_a_value_of_another_kind_is_one_line(path: str, change: Callable[[Any], None]) -> None:
    refused(changed(path, change), path)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (compare.PER_IMAGE, "image_id,coco_id\nimg1,1\nimg2,2\n"),
        (compare.PER_IMAGE, "image_id,coco_id\nimg1,1\nimg2,2\nimg3,three\n"),
        (compare.PER_IMAGE, "image_id,coco_id\nimg1,1\nimg2,2\nimg3\n"),
        (compare.PER_IMAGE, "image_id,coco_id\nimg1,1\nimg2,2\nimg3,3,4\n"),
        (compare.PER_IMAGE, "coco_id\n1\n2\n3\n"),
        (compare.PER_IMAGE, "image_id,coco_id,meteor\nimg1,1,0.5\nimg2,2,nan\nimg3,3,0.5\n"),
        (compare.PER_IMAGE, "image_id,coco_id,spice\nimg1,1,0.5\nimg2,2,high\nimg3,3,0.5\n"),
        (CURVE, "epoch\tcider\n0\t0.5\n"),
        (CURVE, "step\tcider\n0\thigh\n"),
        (CURVE, "step\tcider\nzero\t0.5\n"),
        (CURVE, "step\n0\n"),
    ],
)
def test_a_table_with_another_column_or_no_number_is_one_line(path: str, text: str) -> None:
    one = revision()
    one.files[path] = text.encode()
    refused(one, path)


@examples(40)
@given(st.sampled_from(READ), st.data())
def test_no_bytes_are_a_traceback(path: str, data: st.DataObject) -> None:
    """A byte of each file is another one, or the file is cut: it is read, or it is one line."""
    one = revision()
    whole = one.files[path]
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.binary(max_size=1))
    one.files[path] = whole[:place] + byte + (whole[place + 1 :] if data.draw(st.booleans()) else b"")
    with suppress(UserError):  # all else fails the test
        everything(one)


def test_a_report_of_a_damaged_revision_writes_nothing(tmp_path: Any) -> None:
    one = revision()
    experiment = compare.read(one)
    one.files[compare.BASELINES] = b"[1]"
    with pytest.raises(UserError, match=r"^mine: data/evaluate/baselines.json is not"):
        write_report(tmp_path / "a.html", compare.compare([experiment], draws=5), "", None)
    assert list(tmp_path.iterdir()) == []
