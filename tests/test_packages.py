"""What would be published: a wheel and a source archive that an index takes, without the repository's other files."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.imports import ROOT


def build(kind: str, source: Path, target: Path) -> Path:
    """`sdist` or `wheel` of a folder, built there as pip does."""
    code = f"import hatchling.build, sys; print(hatchling.build.build_{kind}(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def test_the_index_would_take_both(sdist: Path, wheel: Path) -> None:
    command = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", str(sdist), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.count("PASSED") == 2, done.stdout + done.stderr


def test_the_source_archive_has_the_library_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = [member.name.partition("/")[2] for member in archive.getmembers()]
    others = {name for name in names if not name.startswith("src/captioning/")}
    documents = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md"}
    assert others == {*documents, "PKG-INFO", "pyproject.toml", ".gitignore"}
    assert sdist.stat().st_size < 20e6


def test_the_source_archive_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    again = build("wheel", folder, tmp_path)
    assert again.read_bytes() == wheel.read_bytes()


def test_the_image_is_built_from_what_the_wheel_needs(wheel: Path, tmp_path: Path) -> None:
    """The Dockerfile's own files, those that .dockerignore lets in, give the same wheel."""
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert names == let_in
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tmp_path / name)
    assert build("wheel", tmp_path, tmp_path / "dist").read_bytes() == wheel.read_bytes()


def test_editors_and_containers_are_set_up_by_make_with_the_extension_of_dvc() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    recommended = json.loads((ROOT / ".vscode/extensions.json").read_text(encoding="utf-8"))["recommendations"]
    installed = container["customizations"]["vscode"]["extensions"]
    assert "iterative.dvc" in installed
    assert set(installed) <= set(recommended)
    make, target = container["postCreateCommand"].split()
    assert make == "make"
    assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_metadata_is_that_of_the_citation(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {metadata['Version']}\n" in citation
    assert f"- name: {metadata['Author']}\n" in citation
    keywords = re.findall(r"^  - (\w.*)$", citation.partition("keywords:")[2], re.MULTILINE)
    assert sorted(metadata["Keywords"].split(",")) == sorted(keywords)


def test_every_extra_of_the_pages_is_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    pages = [ROOT / "README.md", ROOT / "Dockerfile", *(ROOT / "docs").glob("*.md")]
    named = {
        extra
        for page in pages
        for listed in re.findall(r"(?:captioning|'\.)\[([a-z0-9,]+)\]", page.read_text(encoding="utf-8"))
        for extra in listed.split(",")
    }
    assert named <= extras.keys()
    assert {"mlflow", "trackio", "serve"} <= named
