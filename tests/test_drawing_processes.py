"""Images that are drawn by several processes: the bytes of one, and an error where a process ends early."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from captioning.data.datasets.scenes import dataset
from captioning.system.errors import UserError

COUNTS: dict[str, Any] = {"train": 15, "val": 4, "test": 3, "size": 40, "seed": 5}


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Five images are worth a process; the ids of those that were started."""
    fork, started = os.fork, []

    def counted() -> int:
        started.append(fork())
        return started[-1]

    monkeypatch.setattr(os, "fork", counted)
    monkeypatch.setattr(dataset, "_WORTH", 5)
    return started


def gone(process: int) -> bool:
    """Has the child ended, and did somebody wait for it?"""
    try:
        os.waitpid(process, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


@pytest.mark.parametrize(("cores", "processes"), [(2, 2), (3, 3), (64, 5), (None, 1)])
def test_any_number_of_processes_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[int], cores: int | None, processes: int
) -> None:
    found = []
    for name, count in (("one", 1), ("several", cores)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        (tmp_path / name).mkdir()
        table = dataset.write(tmp_path / name, **COUNTS)
        files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        found.append((files, table.to_csv()))
    assert found[0] == found[1]
    assert len(children) == processes - 1
    assert all(map(gone, children))


def fails() -> None:
    raise RuntimeError("no ink")


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("end", [fails, is_killed])
@pytest.mark.parametrize("image", [1, 10, 19])
def test_a_process_that_ends_early_ends_the_command_and_leaves_no_archive(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    children: list[int],
    end: Callable[[], None],
    image: int,
) -> None:
    """At the first image of a child, between others, and at its last one."""
    parent, draw, scenes = os.getpid(), dataset.draw, dataset.compose(22, 5)

    def drawn(scene: dataset.Scene, size: int) -> Any:
        if os.getpid() != parent and scene == scenes[image]:
            end()
        return draw(scene, size)

    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(dataset, "draw", drawn)
    with pytest.raises(UserError, match="a process that draws scenes ended early") as caught:
        dataset.write(tmp_path, **COUNTS)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert len(children) == 2
    assert all(map(gone, children))
    assert ("RuntimeError: no ink" in capfd.readouterr().err) is (end is fails)


def test_an_error_in_the_first_process_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], children: list[int]
) -> None:
    """They write to pipes that nobody reads any more, which is no error of theirs."""
    parent, draw = os.getpid(), dataset.draw

    def drawn(scene: dataset.Scene, size: int) -> Any:
        if os.getpid() == parent:
            fails()
        return draw(scene, 10 * size)  # more than a pipe holds

    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(dataset, "draw", drawn)
    with pytest.raises(RuntimeError, match="no ink"):
        dataset.write(tmp_path, **COUNTS)
    assert list(tmp_path.iterdir()) == []
    assert all(map(gone, children))
    assert capfd.readouterr().err == ""
