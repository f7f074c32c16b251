"""Where the encoder's weights are from, and which are refused. The network is never called."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision import models

from captioning.data.network import downloads
from captioning.data.network.downloads import Fetched
from captioning.data.network.pretrained import bring
from captioning.system.errors import UserError
from captioning.system.files import digest
from captioning.vision.encoders import backbones, encoders, torchvision_models
from captioning.vision.encoders.weights import read_weights

NAME = "squeezenet1_1"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(5)
    return models.squeezenet1_1().state_dict()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, *_: Any, **__: Any) -> Fetched:
        raise UserError(f"{url}: cannot be downloaded; put the file into the folder download.source")

    monkeypatch.setattr(downloads, "fetch", refuse)


def brought(folder: Path, choice: str, name: str = NAME) -> dict[str, Any]:
    return bring(name, choice, folder / "weights.safetensors", source=None, cache=folder / "cache", root=folder)


def test_none_leaves_a_file_without_tensors(tmp_path: Path) -> None:
    assert brought(tmp_path, "none") == {"kind": "none", "origin": None, "sha256": None}
    assert read_weights(tmp_path / "weights.safetensors") == {}


@pytest.mark.parametrize("name", ["mine.pth", "mine.safetensors", "sub/mine.pth"])
def test_a_state_dict_without_its_head(tmp_path: Path, state: dict[str, Tensor], name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    assert brought(tmp_path, name) == {"kind": "file", "origin": name, "sha256": digest(path)}
    found = read_weights(tmp_path / "weights.safetensors")
    assert found.keys() == {key for key in state if not key.startswith("classifier")}
    assert all(torch.equal(found[key], state[key]) for key in found)


def test_an_absolute_path(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "mine.pth")
    (tmp_path / "elsewhere").mkdir()
    brought(tmp_path / "elsewhere", str(tmp_path / "mine.pth"))
    assert read_weights(tmp_path / "elsewhere/weights.safetensors")


def test_what_is_brought_builds_the_encoder_and_is_the_same_twice(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "a.pth")
    save_file({key: state[key].clone() for key in reversed(state)}, tmp_path / "b.safetensors")
    files = []
    for name in ("a.pth", "b.safetensors"):
        brought(tmp_path, name)
        files.append((tmp_path / "weights.safetensors").read_bytes())
    assert files[0] == files[1]
    transform = backbones.transform_for(NAME, 64, pretrained=True)
    encoder = encoders.build(NAME, transform=transform, weights=load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(encoder.body.state_dict()["features.0.weight"], state["features.0.weight"])


def test_imagenet_is_the_file_that_torchvision_publishes(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fetch(url: str, target: Path, **options: Any) -> Fetched:
        asked.update(url=url, **options)
        target.parent.mkdir(parents=True)
        torch.save(state, target)
        return Fetched(target.name, url, 1, "", "", published=True)

    monkeypatch.setattr(downloads, "fetch", fetch)
    url = models.SqueezeNet1_1_Weights.DEFAULT.url
    record = brought(tmp_path, "imagenet")
    assert (asked["url"], asked["digest"]) == (url, "sha256-prefix:b8a52dc0")
    assert (record["kind"], record["origin"]) == ("imagenet", url)
    assert read_weights(tmp_path / "weights.safetensors")


def test_every_published_file_names_its_digest() -> None:
    for name in torchvision_models.names():
        stem = Path(models.get_model_weights(name).DEFAULT.url).stem
        assert len(bytes.fromhex(stem.rpartition("-")[2])) >= 4, name


def test_without_network_one_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"squeezenet1_1-b8a52dc0\.pth: .*download\.source.*features\.weights = PATH"
    ) as e:
        brought(tmp_path, "imagenet")
    assert "\n" not in str(e.value)
    assert not (tmp_path / "weights.safetensors").exists()


def test_weights_of_another_encoder_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "mine.pth")
    with pytest.raises(UserError, match=r"^features\.weights = mine\.pth: the weights are not those of resnet18: "):
        brought(tmp_path, "mine.pth", "resnet18")
    with pytest.raises(UserError, match="squeezenet1_1"):
        brought(tmp_path, "mine.pth", "squeezenet11")
    assert not (tmp_path / "weights.safetensors").exists()


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('it went off')",)


def test_a_pickled_bomb_does_not_go_off(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pth", "raw.pth"):
        with pytest.raises(UserError, match=rf"{name}: not a state dict") as fault:
            brought(tmp_path, name)
        assert "\n" not in str(fault.value)


def test_what_is_no_state_dict_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({"state_dict": state}, tmp_path / "nested.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("no tensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("nested.pth", "list.pth", "text.pth", "text.safetensors", "empty.pth"):
        with pytest.raises(UserError, match=rf"^features\.weights = {name}: .*{name}: not a state dict") as fault:
            brought(tmp_path, name)
        assert "\n" not in str(fault.value)
    with pytest.raises(UserError, match=r"gone\.pth: no such file"):
        brought(tmp_path, "gone.pth")


def test_damaged_output_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights\.safetensors: cannot be read .*dvc repro -f weights"):
        read_weights(tmp_path / "weights.safetensors")
    (tmp_path / "weights.safetensors").write_text("no tensors")
    with pytest.raises(UserError, match="cannot be read"):
        read_weights(tmp_path / "weights.safetensors")
