"""What the project wrote is read back as it was written, or not at all: cuts and flipped bits in each kind of file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captioning.data.splits import splits
from captioning.data.splits.images import read_images
from captioning.data.text.encoded_captions import EncodedCaptions
from captioning.data.text.vocabulary import Vocabulary
from captioning.system import sealed
from captioning.system.checkpoints import Checkpoint
from captioning.system.errors import UserError
from captioning.system.sealed import DamagedError
from tests.properties import examples

DOCUMENT = {"ids": ["a", "é"], "rows": 3, "nested": {"loss": 0.25, "none": None}}
CAPTIONS = EncodedCaptions(np.arange(9, dtype=np.int32), np.array([0, 4, 9]), np.array([1, 0], np.int32))


def _table(path: Path) -> bytes:
    sealed.check_table(path, "run it again")
    return path.read_bytes()


def _arrays(path: Path) -> list[list[int]]:
    read = EncodedCaptions.read(path)
    return [array.tolist() for array in (read.tokens, read.offsets, read.image)]


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "table": (lambda path: sealed.write_table(path, "image_id,file\n1,a.jpg\n"), _table),
    "document": (lambda path: sealed.write_document(path, DOCUMENT), lambda path: sealed.read_document(path, "again")),
    "binary": (lambda path: sealed.write_binary(path, b"weights" * 9), lambda path: bytes(sealed.read_binary(path))),
    "arrays": (CAPTIONS.write, _arrays),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_what_was_written_is_read(kind: str, tmp_path: Path) -> None:
    write, read = KINDS[kind]
    write(tmp_path / "a.bin")
    again = read(tmp_path / "a.bin")
    write(tmp_path / "b.bin")
    assert read(tmp_path / "b.bin") == again
    if kind == "document":
        assert again == DOCUMENT


@every_kind
@examples(60)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_means_nothing(
    kind: str, place: float, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write, read = KINDS[kind]
    path = tmp_path_factory.mktemp("flip") / "a.bin"
    write(path)
    whole, data = read(path), bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    try:
        again = read(path)
    except DamagedError as fault:
        again, message = whole, str(fault)
    else:
        message = str(path)
    assert again == whole
    assert str(path) in message
    assert "\n" not in message


@every_kind
@examples(20)
@given(left=st.floats(0, 1, exclude_max=True))
def test_a_cut_is_noticed(kind: str, left: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    write, read = KINDS[kind]
    path = tmp_path_factory.mktemp("cut") / "a.bin"
    write(path)
    data = path.read_bytes().rstrip(b"\n")  # the line end of a document means nothing
    path.write_bytes(data[: int(left * len(data))])
    with pytest.raises(DamagedError):
        read(path)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"null", b'"text"', b"{", b"\xff\xfe", b"[" * 100_000, b'{"sha256": {}}', b"1" * 9_999, b'{"a": 1}'],
)
def test_what_is_no_such_document_is_one_line(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(DamagedError, match=r"a\.json.*; run it again$") as fault:
        sealed.read_document(path, "run it again")
    assert len(str(fault.value)) < 300 + len(str(path))
    assert "\n" not in str(fault.value)


def test_a_table_without_its_digest_and_a_digest_without_its_table(tmp_path: Path) -> None:
    sealed.write_table(tmp_path / "a.csv", "x\n")
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    for name, lacking in (("a.csv", "a.csv"), ("b.csv", "b.sha256")):
        with pytest.raises(DamagedError, match=rf"{lacking}: no such file; again"):
            sealed.check_table(tmp_path / name, "again")


@pytest.mark.parametrize("damage", [lambda _: b"", lambda data: data[:-9], lambda data: data[:-1] + b"?"])
def test_a_damaged_checkpoint_is_not_taken_up(
    damage: Callable[[bytes], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint("key")
    checkpoint.save({"weights": torch.ones(3)})
    loaded = checkpoint.load()
    assert loaded is not None
    assert loaded["weights"].tolist() == [1, 1, 1]
    [path] = tmp_path.rglob("checkpoint.pt")
    path.write_bytes(damage(path.read_bytes()))
    assert checkpoint.load() is None
    assert capsys.readouterr().err.count("\n") == 1
    checkpoint.save({"weights": torch.zeros(3)})
    assert checkpoint.load() is not None


def test_tables_of_splits_are_refused_when_edited(tmp_path: Path) -> None:
    import pandas as pd

    rows = [(str(n), f"{n}.jpg", "a dog", split) for n, split in enumerate(("train", "train", "val", "test"))]
    table = splits.assign(pd.DataFrame(rows, columns=["image_id", "file", "caption", "split"]))
    splits.write(tmp_path, table, Vocabulary.count(table["words"], 1), 5)
    assert len(read_images(tmp_path / "images.csv")) == 4
    path = tmp_path / "references_val.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images": []}))
    with pytest.raises(UserError, match=r"references_val\.json: damaged.*dvc repro -f split"):
        splits.coco.read_references(path)
    (tmp_path / "images.csv").write_text("image_id,file,split,coco_id\n")
    with pytest.raises(UserError, match=r"images\.csv: not the file.*dvc repro -f split"):
        read_images(tmp_path / "images.csv")
