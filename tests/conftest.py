"""One arithmetic for all tests, pinned before torch is imported; properties are drawn the same on every run.

Each process has one thread: more processes than there are cores run the tests, and threads would wait for each other.

The pipeline runs once in each process that has a test of a trained project.
"""

import ctypes
import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioning.system import compute
from tests.project import Project
from tests.properties import pytest_addoption, pytest_configure, pytest_terminal_summary
from tests.zygote import serving

LONGEST = ("test_typed_pages.py", "test_suites.py", "test_typed_models.py", "test_pipeline.py")  # minutes each

compute.pin(portable=True, threads=1)
__all__ = ["pytest_addoption", "pytest_configure", "pytest_terminal_summary"]  # pytest finds them here by name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that drive DVC first, the longest ahead: none of them should run alone at the end."""
    slow = {item.path for item in items if "home" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.path not in slow))


@pytest.fixture(scope="module", autouse=True)
def memory() -> Iterator[None]:
    """Memory is given back after each file: `compute.pin` keeps what is freed, and a process would grow to 7 GB."""
    yield
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)  # glibc has it


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home, with a `python` for projects that has no need to load the libraries for each stage."""
    folder = tmp_path_factory.mktemp("home")
    with serving(folder / "bin"):
        yield folder


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Project:
    """A project that was reproduced once, and committed."""
    made = Project.create(tmp_path_factory.mktemp("project"), home)
    made.run("dvc", "repro")
    made.run("git", "add", "-A")
    made.run("git", "commit", "-qm", "first run")
    return made


@pytest.fixture
def copy(project: Project, home: Path, tmp_path: Path) -> Project:
    """A copy of the reproduced project that a test may spoil."""
    shutil.copytree(project.folder, tmp_path / "copy", symlinks=True)
    return Project(tmp_path / "copy", home)


@pytest.fixture(scope="session")
def experimented(project: Project, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the reproduced project with an experiment `short`, and the baseline back in its workspace."""
    folder = tmp_path_factory.mktemp("experimented") / "copy"
    shutil.copytree(project.folder, folder, symlinks=True)
    made = Project(folder, home)
    made.run("dvc", "exp", "run", "-S", "evaluate.max_words=3", "--name", "short")
    made.run("git", "checkout", "-q", ".")
    made.run("dvc", "checkout", "-q", "--force")
    return made
