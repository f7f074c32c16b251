"""Atomic writes, digests, JSON, and the main repository's folder."""

import errno
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from captioning.system import files
from captioning.system.errors import UserError


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")

    def write_half() -> None:
        with files.atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["out.txt"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f".a.{ended.pid}.tmp").write_text("half")
    (tmp_path / f".a.{os.getpid()}.tmp").mkdir()  # of an earlier process with this number
    others = [f".a.{os.getppid()}.tmp", f".b.{ended.pid}.tmp", ".a.b.tmp", f".a.b.{ended.pid}.tmp"]
    for name in others:
        (tmp_path / name).write_text("another's")
    files.write_text(tmp_path / "a", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "a"])


@pytest.mark.parametrize("inside", ["", "part"])
def test_a_fault_of_the_disk_names_the_file_and_what_to_do(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "model"

    def write_in_vain() -> None:
        with files.disk_faults_told(tmp_path), files.atomic(path) as temporary:
            raise OSError(errno.ENOSPC, "No space left on device", *([str(temporary / inside)] if inside else []))

    with pytest.raises(UserError) as told:
        write_in_vain()
    assert str(told.value) == f"{path}: No space left on device; make room or give access, and run again"


def test_a_name_that_is_too_long_is_said_so(tmp_path: Path) -> None:
    said = r"^x+…x+: File name too long; give a shorter one$"
    with pytest.raises(UserError, match=said), files.disk_faults_told(tmp_path):
        Path("x" * 5000).stat()


def test_a_fault_that_is_not_of_the_disk_is_not_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.disk_faults_told(tmp_path):
        (tmp_path / "absent").read_text()


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_moved_takes_the_place_of_what_was_there(tmp_path: Path, folder: bool) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir() if folder else (tmp_path / name).write_text(name)
    if folder:
        (tmp_path / "new" / "file").touch()
    files.move(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "file").exists() if folder else (tmp_path / "old").read_text() == "new"


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_moved_to_another_mount_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: bool
) -> None:
    """Also when both mounts are of one file system, as a folder of a container may be."""
    source, target = tmp_path / "a" / "new", tmp_path / "b" / "old"
    inside = "file" if folder else ""
    for path in (source, target):
        (path / inside).parent.mkdir(parents=True)
        (path / inside).write_text(path.name)
    replace = Path.replace

    def within_a_mount(self: Path, other: Path) -> Path:
        if self.parent != other.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", within_a_mount)
    files.move(source, target)
    assert (target / inside).read_text() == "new"
    assert not source.exists()
    assert [path.name for path in target.parent.iterdir()] == ["old"]


def test_a_fault_is_told_of_the_file_where_its_temporary_one_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def barred(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "replace", barred)
    monkeypatch.setattr(files, "_remove", barred)
    with pytest.raises(OSError, match="Read-only") as told:
        files.write_text(tmp_path / "a", "new")
    assert told.value.filename == str(tmp_path / "a")


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for name in ("a", "b"):
        with files.atomic(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
            assert not (path / name).exists()
    assert [found.name for found in path.iterdir()] == ["b"]
    assert [found.name for found in tmp_path.iterdir()] == ["model"]


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"b": 1, "a": "é"})
    assert path.read_bytes() == '{\n "a": "é",\n "b": 1\n}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    assert files.read_json(path) == {"b": 1, "a": "é"}


def test_faults_of_json_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(UserError, match="no such file"):
        files.read_json(path)
    path.write_text('{\n "a": 1,\n}')
    with pytest.raises(UserError, match=rf"{path}, line 3: not JSON"):
        files.read_json(path)


def test_digest_is_that_of_hashlib(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "x").write_bytes(data)
    assert files.digest(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    assert files.digest(tmp_path / "x", "md5") == hashlib.md5(data).hexdigest()


@pytest.mark.parametrize("inside", ["", ".dvc/tmp/exps/standalone/tmpabc", ".dvc/tmp/exps/temp/x/y"])
def test_queued_experiments_find_the_main_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / inside))
    assert files.main_root() == tmp_path.resolve()
    assert files.scratch("train") == tmp_path.resolve() / ".scratch/train"


def test_outside_dvc_the_root_is_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert files.main_root() == tmp_path.resolve()


def test_a_link_is_a_second_name_or_else_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"bytes")
    files.link(source, tmp_path / "linked")
    assert source.samefile(tmp_path / "linked")
    with pytest.raises(FileExistsError):  # what is there has other names, perhaps: it is not written into
        files.link(source, tmp_path / "linked")

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "no hard links", str(source), None, str(target))

    monkeypatch.setattr(os, "link", refuse)
    files.link(source, tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == b"bytes"
    assert not source.samefile(tmp_path / "copied")
