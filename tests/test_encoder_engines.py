"""`features.engine`: a frozen encoder that another engine runs, while features are stored."""

import importlib.util
import io
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from captioning.data.extraction import engines, extraction
from captioning.data.extraction.encoding import at_once
from captioning.data.runtimes import onnx_runtime, openvino_runtime, registry
from captioning.data.runtimes.registry import Engine
from captioning.settings.resolve import load
from captioning.system import compute
from captioning.system.archives import ImageArchives, write_zip
from captioning.system.errors import UserError
from captioning.vision.encoders import encoders
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features.store import FeatureStore
from captioning.vision.images import Transform
from stages import check, features
from tests.imports import ROOT

ENGINES = [Engine.onnxruntime, Engine.openvino]
TRANSFORM = Transform(48, 48, "bilinear", (0.5,) * 3, (0.25,) * 3)
COUNT, BATCH = 7, 3  # so that the last batch is not full
NAMES = ("means", "regions", "mirrored_means", "mirrored_regions")
FROZEN = {"features.trainable": False, "features.engine": "openvino"}


def jpeg(seed: int) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(small).resize((90, 70)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_zip(folder / "images.zip", ((f"{i}.jpg", jpeg(i)) for i in range(COUNT)))
    return folder


def frozen(name: str) -> Encoder:
    return encoders.freeze(encoders.build(name, transform=TRANSFORM, weights={}, seed=1))


def stored(root: Path, folder: Path, encoder: Encoder, engine: Engine, threads: int = 1) -> dict[str, np.ndarray]:
    """What the store has of all images, in float32."""
    table = pd.DataFrame(
        {"image_id": [str(i) for i in range(COUNT)], "file": [f"images.zip/{i}.jpg" for i in range(COUNT)]}
    )
    fabric = compute.start(seed=1, threads=threads, device="cpu", precision="32-true")
    with ImageArchives(root) as files:
        extractor = extraction.features(
            files,
            encoder,
            ("means", "regions"),
            BATCH,
            mirror=True,
            runs=lambda network: (
                engines.runs(network, engine, BATCH, at_once(network), bf16=False)
                if engine != Engine.torch
                else extraction.by_torch(network)
            ),
        )
        extraction.write(folder, table, extractor, 4, folder.with_suffix(".unfinished"), fabric)
    store = FeatureStore(folder, table["image_id"].tolist())
    everything = np.arange(COUNT)
    return {name: np.asarray(getattr(store, name)[everything], np.float32) for name in NAMES}


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "vit_tiny"])
def test_features_are_torchs_to_the_last_bits_of_float16(root: Path, tmp_path: Path, name: str) -> None:
    encoder = frozen("timm/test_vit" if name == "vit_tiny" else name)
    by_torch = stored(root, tmp_path / "torch", encoder, Engine.torch)
    for engine in ENGINES:
        found = stored(root, tmp_path / engine, encoder, engine)
        for kept, expected in by_torch.items():
            np.testing.assert_allclose(found[kept], expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("engine", ENGINES)
def test_the_bytes_do_not_depend_on_how_many_threads_there_are(root: Path, tmp_path: Path, engine: Engine) -> None:
    encoder = frozen("mobilenet_v2")
    one, two = (stored(root, tmp_path / f"{threads}", encoder, engine, threads) for threads in (1, 2))
    assert all((one[name] == two[name]).all() for name in NAMES)
    files = [sorted(path for path in (tmp_path / f"{threads}").iterdir()) for threads in (1, 2)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_encoder_runs_in_the_engine_and_not_in_torch(engine: Engine) -> None:
    encoder = frozen("squeezenet1_1")
    pixels = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    with torch.inference_mode():
        expected = encoder(pixels)
    first, second = engines.runs(encoder, engine, 2, 2, bf16=False)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    for run in (first, second):
        torch.testing.assert_close(run(pixels), expected, rtol=1e-4, atol=1e-4)


def test_each_run_is_of_one_thread_at_a_time(root: Path) -> None:
    """Four threads read; the two runs that there are never meet themselves."""
    busy = [threading.Lock(), threading.Lock()]
    together = threading.Barrier(2)

    def run(index: int, pixels: torch.Tensor) -> torch.Tensor:
        assert busy[index].acquire(blocking=False)
        together.wait(timeout=60)
        busy[index].release()
        return torch.zeros(len(pixels), 1, 512)

    with ImageArchives(root) as files:
        extractor = extraction.features(
            files,
            frozen("squeezenet1_1"),
            ["means"],
            1,
            runs=lambda _: [partial(run, index) for index in range(2)],
            threads=4,
        )
        rows = list(extractor.extract([f"images.zip/{i % COUNT}.jpg" for i in range(12)]))
    assert [row["means"].shape for row in rows] == [(1, 512)] * 12


def test_only_an_engine_that_has_bfloat16_is_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(openvino_runtime, "load", lambda *_, bf16: asked.append(bf16))
    monkeypatch.setattr(onnx_runtime, "load", lambda *_: None)
    for engine in ENGINES:
        for bf16 in (False, True):
            registry.load(engine, Path("any.onnx"), 1, bf16=bf16)
    assert asked == [False, True]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features.engine": "openvino"}, "features.engine = openvino runs a frozen encoder, and this one is trained"),
        (FROZEN | {"features.engine": "onnxruntime"}, "cannot be limited to AVX2; write compute.portable: false, or"),
    ],
)
def test_an_engine_that_has_no_part_in_it_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(ROOT / "params.yaml", changes)


@pytest.mark.parametrize(
    "changes",
    [FROZEN, FROZEN | {"features.engine": "onnxruntime", "compute.portable": False}, {"features.engine": "torch"}],
)
def test_an_engine_that_can_run_the_encoder_is_taken(changes: dict[str, object]) -> None:
    check._engine(load(ROOT / "params.yaml", changes))


@pytest.mark.parametrize(("package", "extra"), [("openvino", "openvino"), ("onnxscript", "onnx")])
def test_the_check_names_a_missing_package(monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else there(name))
    said = rf"features.engine = openvino needs {package}: pip install 'captioning\[{extra}\]'"
    with pytest.raises(UserError, match=said):
        check._engine(load(ROOT / "params.yaml", FROZEN))


def test_a_gpu_is_left_to_torch() -> None:
    fabric = SimpleNamespace(device=SimpleNamespace(type="cuda"), autocast=None)
    with pytest.raises(UserError, match=r"features.engine = openvino: runs on CPUs, and this is a GPU; write torch"):
        features._runs(Engine.openvino, "32-true", fabric)  # type: ignore[arg-type]
    assert features._runs(Engine.torch, "32-true", fabric)  # type: ignore[arg-type]


def test_the_engine_and_its_version_are_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    torchs, before = (features._made_by(engine) for engine in (Engine.torch, Engine.openvino))
    assert torchs == {"name": "torch"}
    assert before.keys() == {"name", "onnx", "onnxscript", "openvino"}
    monkeypatch.setattr(registry, "version", lambda name: "0.1" if name == "openvino" else "0")
    assert features._made_by(Engine.openvino) == {"name": "openvino", "onnx": "0", "onnxscript": "0", "openvino": "0.1"}
