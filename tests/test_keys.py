"""Unfinished work is taken up by a run of the same settings, code and data: each input is in the key."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy
import PIL
import pytest
import torch
import torchvision

import stages
from captioning.settings.resolve import load
from captioning.system import compute
from captioning.system.sealed import write_document
from stages import features, train
from tests.imports import ROOT

SETTINGS = load(ROOT / "params.yaml")
ARCHIVE = "data/download/scenes.zip"
FACTS = "data/download/facts.jsonl"
WEIGHTS = ["data/weights/weights.json", "data/weights/weights.safetensors"]
READ_BY_FEATURES = ["data/split/images.csv", ARCHIVE, "data/objects/objects.json", *WEIGHTS]
READ_BY_TRAIN = [
    "data/vocab/vocab.txt",
    "data/features/index.json",
    "data/split/images.csv",
    "data/split/references_val.json",
    "data/split/train.npz",
    "data/split/val.npz",
    "data/objects/objects.json",
    FACTS,
    *WEIGHTS,
]


def put(path: Path, **more: int) -> None:
    """Write a file that each stage can read as far as its key does: the card of the objects has its digest in it."""
    write_document(path, {"kind": "none", **more})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in {*READ_BY_FEATURES, *READ_BY_TRAIN}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        put(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key_of_train(device: str = "cpu") -> str:
    fabric = SimpleNamespace(world_size=1, device=SimpleNamespace(type=device))
    return train._key({}, fabric)  # type: ignore[arg-type]


def key_of_features(device: str = "cpu") -> str:
    chosen = {"encoder": SETTINGS.encoder, **compute.software(device)}
    return features._key(chosen, SETTINGS.features, SETTINGS.compute, [Path(ARCHIVE)])


@pytest.mark.parametrize("name", READ_BY_FEATURES)
def test_every_input_is_in_the_key_of_the_features(folder: Path, name: str) -> None:
    before = key_of_features()
    put(folder / name, other=1)
    assert key_of_features() != before


@pytest.mark.parametrize("name", READ_BY_TRAIN)
def test_every_input_is_in_the_key_of_the_training(folder: Path, name: str) -> None:
    before = key_of_train()
    put(folder / name, other=1)
    assert key_of_train() != before


@pytest.mark.parametrize("key", [key_of_features, key_of_train])
@pytest.mark.usefixtures("folder")
def test_the_device_is_in_the_key(key: Callable[..., str]) -> None:
    assert key("cuda") != key("cpu")


VERSIONS = {"PIL": PIL, "numpy": numpy, "torch": torch, "torchvision": torchvision}


@pytest.mark.parametrize("key", [key_of_features, key_of_train])
@pytest.mark.parametrize("library", VERSIONS)
@pytest.mark.usefixtures("folder")
def test_the_version_of_each_library_is_in_the_key(
    key: Callable[..., str], library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key()
    monkeypatch.setattr(VERSIONS[library], "__version__", "0.0.1")
    assert key() != before


@pytest.mark.parametrize("key", [key_of_features, key_of_train])
@pytest.mark.usefixtures("folder")
def test_what_the_cpu_can_do_and_who_made_it_are_in_the_key(
    key: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ANOTHER")
    other = key()
    monkeypatch.setattr(compute, "cpu_vendor", lambda: "AnotherMaker")
    assert len({before, other, key()}) == 3


@pytest.fixture
def sources(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code, which the stages take for theirs."""
    for name in ("src/captioning", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    monkeypatch.setattr(stages, "ROOT", folder)
    return folder


@pytest.mark.parametrize(
    ("key", "listed", "others"),
    [
        (
            key_of_features,
            ["stages/features.py", "stages/__init__.py", "src/captioning/data/extraction/npy.py"],
            ["stages/train.py", "src/captioning/decoders/lstm.py", "src/captioning/vision/contact_sheets.py"],
        ),
        (
            key_of_train,
            ["stages/train.py", "src/captioning/decoders/lstm.py", "src/captioning/training/encoder/division.py"],
            ["stages/features.py", "src/captioning/experiments/report/tables.py", "src/captioning/cli/predict.py"],
        ),
    ],
)
def test_the_code_that_the_stage_lists_is_in_the_key_and_no_other(
    sources: Path, key: Callable[..., str], listed: list[str], others: list[str]
) -> None:
    before = key()
    for name in others:
        edit(sources / name)
    assert key() == before
    for name in listed:
        edit(sources / name)
        assert key() != before, name
        before = key()


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "# edited\n")


def test_a_new_file_in_a_listed_folder_is_in_the_key(sources: Path) -> None:
    before = key_of_train()
    (sources / "src/captioning/training/added.py").write_text("")
    assert key_of_train() != before
