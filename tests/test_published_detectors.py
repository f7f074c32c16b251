"""torchvision's detectors by name: real networks with random weights, compared with torchvision's own inference."""

import json
import re
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import models

from captioning.data.datasets.scenes import dataset as scenes
from captioning.data.detection import detecting
from captioning.data.objects import detectors
from captioning.data.objects.detectors import PublishedDetector
from captioning.data.objects.labels import read_labels
from captioning.data.objects.tables import Objects, identity
from captioning.data.splits import splits
from captioning.settings import resolve
from captioning.settings.schema import Settings
from captioning.system.errors import UserError
from captioning.system.sealed import DamagedError, write_table
from captioning.vision.detection import torchvision_detectors
from stages import check
from stages import objects as stage
from tests.imports import ROOT

SSDLITE, FILE = "ssdlite320_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large_coco-a79551df.pth"
PYRAMID = "fasterrcnn_mobilenet_v3_large_320_fpn"
MASKS = "maskrcnn_resnet50_fpn"
BEST = 40  # objects that are compared
SPREADS = {  # of random weights ahead of scores: some are likely, and few are equal
    SSDLITE: 0.3,
    PYRAMID: 0.1,
    "retinanet_resnet50_fpn": 0.025,
    MASKS: 0.1,
}
HEADS = ("cls_logits", "cls_score", "classification_head", "bbox_pred")


def settings(**overrides: object) -> Settings:
    changes = {"objects": SSDLITE, "compute.threads": 2} | overrides
    return resolve.load(ROOT / "params.yaml", {key.replace("__", "."): value for key, value in changes.items()})


def image(width: int = 150, height: int = 100, seed: int = 1) -> Image.Image:
    draws = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(draws).resize((width, height), Image.Resampling.BILINEAR)


def shaped(seed: int) -> Tensor:
    """An image as a backbone reads it, (3, 128, 160)."""
    pixels = torch.from_numpy(np.array(image(160, 128, seed))).permute(2, 0, 1)
    return (pixels / 255 - 0.45) / 0.225


@cache
def drawn(name: str, seed: int = 1) -> dict[str, Tensor]:
    """The state of torchvision's network with random weights, some of whose classes are likely."""
    torch.manual_seed(seed)
    network: Any = models.get_model(name, weights=None, weights_backbone=None)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        if "resnet50" in name:
            network.backbone.body.conv1.weight.mul_(0.03)  # what a BatchNorm adds to such small variances is felt
        network.backbone(torch.stack([shaped(seed) for seed in range(4)]))  # BatchNorm keeps the statistics of these
        for path, parameter in network.named_parameters():
            if parameter.ndim > 1 and any(head in path for head in HEADS):
                parameter.normal_(std=0.001 if "bbox_pred" in path else SPREADS[name])
    state: dict[str, Tensor] = network.state_dict()
    return state


def own_inference(name: str, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The network as torchvision builds it where it has fetched its own weights, which are these."""
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: dict(state))
    network: nn.Module = models.get_model(name, weights="DEFAULT").eval()
    return network


def shrink(network: nn.Module, side: int = 96) -> None:
    """Images are made smaller than the network would have them."""
    transform: Any = network.transform
    transform.min_size, transform.max_size = (side,), 2 * side


@torch.inference_mode()
def expected(network: nn.Module, name: str, shown: Image.Image, least: float) -> list[tuple[str, float, list[float]]]:
    weights = models.get_model_weights(name).DEFAULT
    [found] = network([weights.transforms()(shown)])
    named = [
        (weights.meta["categories"][int(kind)], score.item(), box.tolist())
        for kind, score, box in zip(found["labels"], found["scores"], found["boxes"], strict=True)
        if int(kind) > 0
    ]
    best = [one for one in named if one[0] != "N/A"][:100]
    return [one for one in best if one[1] >= least and has_area(one[2])]


def has_area(box: list[float]) -> bool:
    """Is anything left of a box that is written to a tenth of a pixel?"""
    left, top, right, bottom = (round(side, 1) for side in box)
    return left < right and top < bottom


@pytest.mark.parametrize("name", [name for name in SPREADS if name != MASKS])
def test_what_is_found_is_what_torchvision_finds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its published weights have a BatchNorm of another epsilon, and without heads that no box needs."""
    state = drawn(name)
    ours, theirs = torchvision_detectors.fitted(name, state), own_inference(name, state, monkeypatch)
    if "resnet50" in name:
        shrink(ours)
        shrink(theirs)
    detector = PublishedDetector(ours, torchvision_detectors.preset(name).classes)
    for size in ((150, 100), (90, 120)):
        shown = image(*size)
        wanted, found = expected(theirs, name, shown, 0.01), detector.found(shown, 0.01)
        assert len(wanted) > 5
        assert abs(len(found) - len(wanted)) <= 3  # rounding decides which are above a threshold
        for kind, score, box in wanted[:BEST]:
            assert [one for one in found if one.name == kind and close([one.score, *one.box], [score, *box])]


@torch.inference_mode()
def test_boxes_of_mask_r_cnn_come_without_the_head_of_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights say nearly the same of many boxes, so what is compared is what scores and boxes are made of."""
    state = drawn(MASKS)
    ours: Any = torchvision_detectors.fitted(MASKS, state)
    theirs: Any = own_inference(MASKS, state, monkeypatch)
    assert (ours.roi_heads.has_mask(), theirs.roi_heads.has_mask()) == (False, True)
    assert theirs.state_dict().keys() - ours.state_dict().keys() == {key for key in state if ".mask_" in key}
    boxes, said = [torch.tensor([[5.0, 5.0, 60.0, 40.0], [20.0, 0.0, 128.0, 96.0]])], []
    for network in (ours, theirs):
        maps = network.backbone(torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(1)))
        pooled = network.roi_heads.box_roi_pool(maps, boxes, [(96, 128)])
        said.append(network.roi_heads.box_predictor(network.roi_heads.box_head(pooled)))
    for one, other in zip(*said, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    shrink(ours)
    assert PublishedDetector(ours, torchvision_detectors.preset(MASKS).classes).found(image(), 0.01)


def close(one: list[float], other: list[float]) -> bool:
    """Score and box: the one as it is written, the other as it was computed."""
    return abs(one[0] - other[0]) < 1e-3 and bool(np.allclose(one[1:], other[1:], atol=0.11))


def test_all_of_torchvisions_detectors_are_there_and_what_they_say_is_named() -> None:
    names = torchvision_detectors.names()
    assert names == sorted(models.list_models(module=models.detection))
    assert {SSDLITE, PYRAMID, "fasterrcnn_resnet50_fpn_v2"} <= set(names)
    for name in names:
        found = torchvision_detectors.preset(name)
        assert found.url.startswith("https://download.pytorch.org/models/")
        assert "person" in found.classes
        said = [
            kind for number, kind in enumerate(found.classes) if torchvision_detectors.is_class(number, found.classes)
        ]
        assert len(said) == len(set(said)) == (1 if name.startswith("keypoint") else 80)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"head.classification_head.module_list.0.1.bias": None},
            r"head\.classification_head\.module_list\.0\.1\.bias is missing",
        ),
        ({"roi.weight": torch.zeros(1)}, r"roi\.weight is unknown"),
        (
            {"head.classification_head.module_list.0.1.bias": torch.zeros(12)},
            r"head\.classification_head\.module_list\.0\.1\.bias has shape \(12,\), not \(546,\)",
        ),
    ],
)
def test_weights_of_another_network_are_refused_by_name(
    change: dict[str, Tensor | None], said: str, tmp_path: Path
) -> None:
    state = drawn(SSDLITE) | change
    torch.save({key: tensor for key, tensor in state.items() if tensor is not None}, tmp_path / FILE)
    with pytest.raises(
        UserError,
        match=rf"\Aobjects = {SSDLITE}: \S+{FILE}: the weights are not those of {SSDLITE}: [^\n]*{said}[^\n]*\Z",
    ):
        detectors.take(tmp_path, SSDLITE, tmp_path / FILE, "source")


def test_a_name_that_is_no_detector_is_refused_with_those_that_are_close() -> None:
    for written, close in (("label", "labels"), ("fasterrcnn_resnet50", "fasterrcnn_resnet50_fpn"), ("?", "trained")):
        with pytest.raises(
            UserError, match=rf"\Aobjects: '{re.escape(written)}' is no source of objects, .*write .*\b{close}\b"
        ):
            check._objects(settings(objects=written))
    check._objects(settings(dataset="flickr8k"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that has drawn its scenes, and a source with random weights of a detector: it is never sure."""
    monkeypatch.setattr(detectors, "SURE", 0.1)
    monkeypatch.setattr(detecting, "_PART", 3)
    monkeypatch.chdir(tmp_path)
    for name in ("CAPTIONING_SOURCE", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "data/download").mkdir(parents=True)
    table = scenes.write(tmp_path / "data/download", train=4, val=2, test=2, size=48, seed=1)
    images = splits.image_table(table)
    write_table(Path("data/split/images.csv"), images.to_csv(index=False, lineterminator="\n"))
    (tmp_path / "source/weights").mkdir(parents=True)
    torch.save(drawn(SSDLITE), tmp_path / "source/weights" / FILE)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_stopped_run_goes_on_and_what_is_found_is_kept_for_other_seeds(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, calls, find = settings(download__source="source"), count(1), PublishedDetector.found

    def found(detector: PublishedDetector, *given: Any) -> Any:
        if next(calls) == 5:  # of eight images, three are in the first part
            raise KeyboardInterrupt
        return find(detector, *given)

    monkeypatch.setattr(PublishedDetector, "found", found)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        stage.main(wanted)
    assert not (project / "data/objects").exists()
    stage.main(wanted)
    assert next(calls) == 5 + 5 + 1  # those of the second part and the third
    out, first = project / "data/objects", contents(project / "data/objects")
    stage.main(wanted.model_copy(update={"seed": 7}))
    assert next(calls) == 5 + 5 + 2
    assert contents(out) == first
    assert f"{FILE}: copied from" in capsys.readouterr().err
    read = Objects(out)
    card = json.loads((out / "detector/detector.json").read_text())
    assert identity(read.card) == {
        "kind": SSDLITE,
        "source": "torchvision, trained on COCO",
        "weights": card["weights"],
    }
    assert (card["network"], card["published"]["name"], card["published"]["origin"]) == (SSDLITE, FILE, "source")
    assert read.card["scores"].keys() == {"val", "test"}
    assert "N/A" not in read.classes
    assert set(read.classes) <= set(card["classes"])
    _the_table_is_what_the_detector_finds(out)


def _the_table_is_what_the_detector_finds(out: Path) -> None:
    from captioning.data.splits.images import read_images
    from captioning.system.archives import ImageArchives
    from captioning.vision.images import decode

    detector, labels = detectors.read(out / "detector", "again"), read_labels(out / "label.tsv")
    images = read_images(Path("data/split/images.csv"))
    assert list(labels) == images["image_id"].tolist()
    with ImageArchives(Path("data/download")) as files:
        for name, file in list(zip(images["image_id"], images["file"], strict=True))[:2]:
            assert labels[name] == detector.found(decode(files.read(file), file))[:36]
            assert labels[name]


def test_a_damaged_record_of_what_was_found_is_made_again(project: Path) -> None:
    stage.main(settings(download__source="source"))
    first = contents(project / "data/objects")
    assert read_labels(project / "data/objects/label.tsv")["000001"]
    [whole] = (project / ".scratch/objects").glob("*/whole")
    (whole.parent / "00000.json").write_text("{}")
    stage.main(settings(download__source="source"))
    assert contents(project / "data/objects") == first
    torch.save(drawn(SSDLITE, seed=2), project / "source/weights" / FILE)
    stage.main(settings(download__source="source"))
    assert contents(project / "data/objects")["label.tsv"] != first["label.tsv"]
    [other] = (project / ".scratch/objects").iterdir()  # what the first one found is gone
    assert other != whole.parent


def test_without_a_network_one_line_says_which_file_goes_where(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    def get(*_given: object, **_options: object) -> None:
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "get", get)
    monkeypatch.setattr("captioning.data.network.downloads._TRIES", 1)
    (project / "source/weights" / FILE).unlink()
    address, place = f"https://download.pytorch.org/models/{FILE}", "download.source or CAPTIONING_SOURCE"
    said = rf"\A{address}: cannot be downloaded \(no connection\); [^\n]*put {FILE} into the folder named by {place}\Z"
    with pytest.raises(UserError, match=said):
        stage.main(settings(download__source="source"))


def test_a_damaged_detector_is_not_read(project: Path) -> None:
    made = detectors.take(project, SSDLITE, project / "source/weights" / FILE, "source")
    assert isinstance(made, PublishedDetector)
    weights = project / "detector/detector.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedError, match=r"not the file that detector.json describes; try again"):
        detectors.read(project / "detector", "try again")
