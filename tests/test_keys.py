"""Unfinished work is taken up by a run of the same settings, code and data: each input is in the key."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from captioning.settings.resolve import load
from stages import features, train
from tests.imports import ROOT

SETTINGS = load(ROOT / "params.yaml")
ARCHIVE = "data/download/scenes.zip"
WEIGHTS = ["data/weights/weights.json", "data/weights/weights.safetensors"]
READ_BY_FEATURES = ["data/split/images.csv", ARCHIVE, *WEIGHTS]
READ_BY_TRAIN = [
    "data/vocab/vocab.txt",
    "data/features/index.json",
    "data/split/images.csv",
    "data/split/references_val.json",
    "data/split/train.npz",
    "data/split/val.npz",
    *WEIGHTS,
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in {*READ_BY_FEATURES, *READ_BY_TRAIN}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"kind": "none"}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key_of_train(device: str = "cpu") -> str:
    fabric = SimpleNamespace(world_size=1, device=SimpleNamespace(type=device))
    return train._key({}, fabric)  # type: ignore[arg-type]


def key_of_features(device: str = "cpu") -> str:
    return features._key(SETTINGS, device, [Path(ARCHIVE)])


@pytest.mark.parametrize("name", READ_BY_FEATURES)
def test_every_input_is_in_the_key_of_the_features(folder: Path, name: str) -> None:
    before = key_of_features()
    (folder / name).write_text('{"kind": "none", "other": 1}')
    assert key_of_features() != before


@pytest.mark.parametrize("name", READ_BY_TRAIN)
def test_every_input_is_in_the_key_of_the_training(folder: Path, name: str) -> None:
    before = key_of_train()
    (folder / name).write_text('{"kind": "none", "other": 1}')
    assert key_of_train() != before


@pytest.mark.parametrize(("stage", "key"), [(features, key_of_features), (train, key_of_train)])
def test_the_stage_and_the_device_are_in_the_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stage: ModuleType, key: Callable[..., str]
) -> None:
    before = key()
    assert key("cuda") != before
    edited = folder / "edited.py"
    edited.write_text(Path(stage.__file__).read_text() + "# edited\n")
    monkeypatch.setattr(stage, "__file__", str(edited))
    assert key() != before
