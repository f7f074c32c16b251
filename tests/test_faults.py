"""Stages that are killed, starved or run twice at once, and then repeated; the short form of `tests.faults`."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dvc_faults import damaged
from tests.forks import Ended
from tests.imports import ROOT
from tests.trees import difference, half_written

SAID = "error: data/train/model: No space left on device; make room or give access, and run again"


@pytest.mark.parametrize(
    ("kills", "kinds"),
    [(10, []), (4, ["code_changed", "inputs_changed"])],
    ids=["of any kind", "and something changed"],
)
def test_repeated_stages_end_with_the_bytes_of_undisturbed_ones(kills: int, kinds: list[str]) -> None:
    command = [sys.executable, "-m", "tests.faults", "--kills", str(kills), "--dvc", "0", "--seed", "7"]
    done = subprocess.run([*command, "--kinds", *kinds], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{kills} kills, seed 7: {kills} repeated to equal bytes"


def test_what_differs_is_found() -> None:
    wanted = {"a": "1", "b": "2", "c": "3"}
    assert difference(wanted, wanted) == ""
    assert difference({"a": "1", "b": "9", "d": "4"}, wanted) == "b (other), c (missing), d (left over)"


def test_a_damaged_object_of_dvcs_cache_is_found(tmp_path: Path) -> None:
    data = b"a result"
    name = hashlib.md5(data).hexdigest()
    path = tmp_path / name[:2] / name[2:]
    path.parent.mkdir()
    path.write_bytes(data)
    (path.parent / ".left.tmp").write_text("of a killed command; it is no object")
    assert damaged(tmp_path) == ""
    path.write_bytes(data[:-1])
    assert damaged(tmp_path) == f"cache/{name[:2]}/{name[2:]} is damaged"


def test_a_half_written_file_is_found_and_a_missing_one_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "data/train"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("cut")
    assert half_written(tmp_path, "train", {"data/train/model": "0"}) == ""
    (folder / "model").write_text("cut")
    assert half_written(tmp_path, "train", {"data/train/model": "0"}) == "data/train/model (other)"


def test_a_temporary_file_counts_unless_nothing_could_be_removed(tmp_path: Path) -> None:
    left = "data/vocab/.vocab.txt.12.tmp"
    (tmp_path / left).parent.mkdir(parents=True)
    (tmp_path / left).write_text("cut")
    assert half_written(tmp_path, "vocab", {}) == f"{left} (other)"
    assert half_written(tmp_path, "vocab", {}, barred=True) == ""


def test_a_fault_of_the_disk_is_one_line_and_status_1() -> None:
    assert Ended(1, f"epoch 1\n{SAID}\n", 0.0).error() == ""
    for ended in (Ended(0, SAID, 0.0), Ended(1, "", 0.0), Ended(1, f"Traceback\n{SAID}", 0.0)):
        assert ended.error() != ""
