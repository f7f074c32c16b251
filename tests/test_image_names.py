"""What systems leave beside images is no image to the packer, the reader of archives, `predict` and DVC alike."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from captioning.cli import image_files
from captioning.system.archives import Archive, write_zip
from captioning.system.image_names import can_be, is_image, leads_outside, tidy
from captioning.system.packing import members
from tests.imports import ROOT
from tests.test_archives import tarred

LITTER = (
    *("._a.jpg", ".hidden.png", "b/._c.jpg", "__MACOSX/a.jpg", "__MACOSX/b/._c.jpg", "b/@eaDir/c.jpg"),
    *(".thumbnails/a.jpg", "#recycle/a.jpg", "@Recycle/a.png", "$RECYCLE.BIN/a.jpg", ".Trash/x/a.jpg"),
)
IMAGES = ("a.jpg", "b/c.JPG", "eaDir/d.png")
LEFT_BY_SYSTEMS = (  # no image is added or changed by them
    *(".DS_Store", "b/.DS_Store", "Thumbs.db", "b/desktop.ini", "._a.jpg", "b/._c.jpg"),
    *("__MACOSX/a.jpg", "@eaDir/a.jpg", "b/.thumbnails/a.jpg", "#recycle/a.jpg", "$RECYCLE.BIN/a.jpg"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*LITTER, *IMAGES):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(b"x")
    return tmp_path / "own"


def test_only_images_are_read_wherever_they_are(folder: Path, tmp_path: Path) -> None:
    files = [(name, b"x") for name in (*LITTER, *IMAGES)]
    write_zip(tmp_path / "a.zip", files)
    tarred(tmp_path / "a.tar", files)
    with Archive(tmp_path / "a.zip") as archive:
        assert archive.names() == sorted(IMAGES)
    for source in (folder, tmp_path / "a.zip", tmp_path / "a.tar"):
        assert members(source) == sorted(IMAGES)
    assert [path.relative_to(folder).as_posix() for path in image_files._images(folder)] == sorted(IMAGES)


def test_a_hidden_folder_that_is_named_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / ".photos").mkdir()
    (tmp_path / ".photos/a.jpg").write_bytes(b"x")
    assert members(tmp_path / ".photos") == ["a.jpg"]
    assert image_files._images(tmp_path / ".photos") == [tmp_path / ".photos/a.jpg"]


def test_what_systems_leave_in_the_folder_does_not_run_download_again(tmp_path: Path) -> None:
    """As DVC sees it: the dependency on `download.folder` is the same with and without them."""

    def run(*command: str) -> str:
        done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shutil.copy(ROOT / ".dvcignore", tmp_path)
    (tmp_path / "pictures/b").mkdir(parents=True)
    for name in ("a.jpg", "b/c.jpg"):
        (tmp_path / "pictures" / name).write_bytes(b"x")
    (tmp_path / "dvc.yaml").write_text("stages: {download: {cmd: 'true', deps: [pictures]}}\n")
    run("dvc", "init", "--no-scm", "-q")
    run("dvc", "repro", "-q")
    for name in LEFT_BY_SYSTEMS:
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(b"y")
    assert run("dvc", "status", "--json").strip() == "{}"
    (tmp_path / "pictures/d.jpg").write_bytes(b"y")
    assert "pictures" in run("dvc", "status", "--json")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:/x", "c:x", "a\\..\\x", "\\\\server\\x", ""])
def test_a_path_that_leads_outside(name: str) -> None:
    assert leads_outside(name)


@pytest.mark.parametrize(
    ("name", "path"), [("a\\b\\c.jpg", "a/b/c.jpg"), ("./a.jpg", "a.jpg"), ("12:30.jpg", "12:30.jpg")]
)
def test_a_path_is_written_in_one_way(name: str, path: str) -> None:
    assert not leads_outside(name)
    assert tidy(name) == path
    assert is_image(name)


@pytest.mark.parametrize("name", ["a\0b", "\ud800.jpg", "x" * 256, "é" * 128, "a/" * 2100 + "b"])
def test_a_name_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    assert not can_be(name)
    with pytest.raises((OSError, ValueError)):
        (tmp_path / name).write_text("x")


@pytest.mark.parametrize("name", ["a.jpg", "folder/é.jpg", "x" * 255, "../a", ""])
def test_a_name_that_a_file_can_have(name: str) -> None:
    assert can_be(name)
