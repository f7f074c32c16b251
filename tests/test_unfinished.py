"""Unfinished work is listed, removed when it is asked for, and swept when it is old or too much."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from captioning.cli.app import app
from captioning.system import unfinished

DAY = 86_400


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path / ".scratch"


def make(path: Path, size: int, days: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - days * DAY,) * 2)
    return path


def clean(*options: str) -> list[str]:
    done = CliRunner().invoke(app, ["clean", *options])
    assert done.exit_code == 0, done.exception
    return done.stdout.splitlines()


def test_of_nothing_nothing_is_removed(root: Path) -> None:
    assert clean() == ["removed 0 pieces of unfinished work, 0 bytes"]
    assert not root.exists()


def test_what_and_how_much(root: Path) -> None:
    checkpoint = make(root / "train/abc/checkpoint.pt", 1_500_000, days=3.2)
    shard = make(root / "features/def/store/pixels-00000.npy", 2_000_000, days=2)
    (root / "kept.npy").hardlink_to(shard)
    part, about = make(root / "downloads/a.zip.part", 999), make(root / "downloads/a.zip.part.json", 9)
    whole = make(root / "downloads/a.zip", 9)
    expected = ["train/abc: 1.5 MB, 3 days old", "features/def: 0 bytes, 2 days old"]
    expected += ["downloads/a.zip.part: 999 bytes, 0 days old"]
    total = "3 pieces of unfinished work, 1.5 MB"
    assert clean("--dry-run") == [*expected, f"would remove {total}"]
    assert checkpoint.exists()
    assert clean() == [*expected, f"removed {total}"]
    assert not any(path.exists() for path in (checkpoint.parent, root / "features/def", part, about))
    assert whole.exists()
    assert (root / "kept.npy").exists()


@pytest.mark.parametrize(
    ("piece", "lock"),
    [
        ("features/def/store/a.npy", "features/.def.lock"),
        ("train/abc/checkpoint.pt", "running/train-12345678.lock"),
        ("objects/abc/checkpoint.pt", "running/objects-12345678.lock"),
        ("downloads/a.zip.part", "downloads/.a.zip.lock"),
    ],
)
def test_what_a_process_works_on_stays(root: Path, piece: str, lock: str) -> None:
    path = make(root / piece, 100, days=99)
    (root / lock).parent.mkdir(exist_ok=True)
    with FileLock(root / lock):
        assert clean()[0].endswith("kept: a process is using it")
        assert clean()[-1] == "removed 0 pieces of unfinished work, 0 bytes"
        assert unfinished.sweep() == []
    assert path.exists()
    assert clean()[-1].startswith("removed 1 ")
    assert not path.exists()


def test_only_what_is_old_is_swept(root: Path) -> None:
    make(root / "train/old/checkpoint.pt", 100, days=31)
    make(root / "train/new/checkpoint.pt", 100, days=29)
    assert [piece.path.name for piece in unfinished.sweep()] == ["old"]
    assert [piece.path.name for piece in unfinished.pieces()] == ["new"]


def test_of_too_much_the_oldest_is_swept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "MOST_BYTES", 250)
    for name, days in (("a", 9), ("b", 5), ("c", 3), ("d", 0.5)):
        make(root / "train" / name / "checkpoint.pt", 100, days=days)
    assert [piece.path.name for piece in unfinished.sweep()] == ["a", "b"]
    monkeypatch.setattr(unfinished, "MOST_BYTES", 0)
    assert [piece.path.name for piece in unfinished.sweep()] == ["c"]  # of today, nothing is


def test_a_whole_feature_store_goes_only_when_a_person_asks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "MOST_BYTES", 0)
    index = make(root / "features/abc/store/index.json", 100, days=99)
    assert unfinished.sweep() == []
    assert clean("--dry-run")[0] == "features/abc: 100 bytes, 99 days old, a whole feature store"
    assert clean()[-1].startswith("removed 1 ")
    assert not index.exists()


def test_a_stage_sweeps_before_it_begins(root: Path) -> None:
    path = make(root / "train/old/checkpoint.pt", 10**6, days=31)
    program = (
        "import stages, types; stages.import_module = lambda _: types.SimpleNamespace(main=print); stages.run('vocab')"
    )
    (root.parent / "params.yaml").symlink_to(Path(__file__).resolve().parents[1] / "params.yaml")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("removed 1 old pieces of unfinished work, 1.0 MB (`captioning clean")
    assert not path.exists()
