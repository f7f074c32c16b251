"""`features.engine`: a frozen encoder that another engine runs, while features are stored."""

import importlib.util
import io
import threading
from contextlib import nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image

from captioning.data.extraction import engines, extraction
from captioning.data.extraction.encoding import at_once, by_torch
from captioning.data.objects import published_vectors
from captioning.data.runtimes import registry, tracing
from captioning.data.runtimes.quantization import quantized
from captioning.data.runtimes.registry import Engine
from captioning.settings.resolve import load
from captioning.system import compute
from captioning.system.archives import ImageArchives, write_zip
from captioning.system.errors import UserError
from captioning.system.sealed import write_document
from captioning.vision.encoders import encoders
from captioning.vision.encoders.encoders import Encoder
from captioning.vision.features.store import FeatureStore
from captioning.vision.images import Transform
from stages import check, features
from tests.casting import Casts
from tests.imports import ROOT

ENGINES = [Engine.onnxruntime, Engine.openvino]
TRANSFORM = Transform(48, 48, "bilinear", (0.5,) * 3, (0.25,) * 3)
COUNT, BATCH = 7, 3  # so that the last batch is not full
NAMES = ("means", "regions", "mirrored_means", "mirrored_regions")
FROZEN = {"features.trainable": False, "features.engine": "openvino", "compute.portable": False}


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
                else by_torch(network)
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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["resnet18", "timm/test_vit"])
def test_in_integers_features_are_near_those_in_float(engine: Engine, name: str) -> None:
    """And are others. The tests allow OpenVINO no VNNI, and its sums overflow then."""
    encoder = frozen(name)
    draw = np.random.default_rng(1)
    examples = draw.integers(0, 256, (5, 3, 48, 48), dtype=np.uint8)  # two batches of three, the second filled up
    pixels = torch.from_numpy(draw.integers(0, 256, (3, 3, 48, 48), dtype=np.uint8))
    [whole] = engines.runs(encoder, engine, 3, 1, bf16=False)
    [small] = engines.runs(encoder, engine, 3, 1, bf16=False, examples=examples)
    expected, found = whole(pixels), small(pixels)
    assert found.dtype == torch.float32
    error = (found - expected).norm() / expected.norm()
    assert 1e-4 < error < 0.3


def test_products_are_in_integers_and_joins_are_not() -> None:
    """OpenVINO 2026.4 ends with a segmentation fault on densenet121 where its concatenations are in integers too."""
    graph = tracing.traced(
        frozen("densenet121"), (torch.zeros(1, 3, 48, 48, dtype=torch.uint8),), None, ["pixels"], ["regions"]
    )
    proto = onnx.load_from_string(quantized(graph, [np.zeros((1, 3, 48, 48), np.uint8)]))
    made_by = {output: node.op_type for node in proto.graph.node for output in node.output}
    read = {made_by.get(name) for node in proto.graph.node if node.op_type == "Conv" for name in node.input[:2]}
    readers = {node.op_type for node in proto.graph.node if any(made_by.get(name) == "Concat" for name in node.input)}
    assert read == {"DequantizeLinear"}
    assert readers
    assert "QuantizeLinear" not in readers


def test_a_graph_in_integers_has_the_same_bytes_each_time() -> None:
    encoder, draw = frozen("resnet18"), np.random.default_rng(1)
    graph = tracing.traced(encoder, (torch.zeros(2, 3, 48, 48, dtype=torch.uint8),), None, ["pixels"], ["regions"])
    batches = [draw.integers(0, 256, (2, 3, 48, 48), dtype=np.uint8) for _ in range(2)]
    first, second, other = (quantized(graph, part) for part in (batches, batches, batches[:1]))
    assert first == second != other
    assert len(first) < len(graph.data) / 3


def test_each_run_is_of_one_thread_at_a_time(root: Path) -> None:
    """Four threads read a batch each; the two runs that there are never meet themselves.

    No more batches than threads: one that waits to be asked for would leave another without its partner.
    """
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
        rows = list(extractor.extract([f"images.zip/{i % COUNT}.jpg" for i in range(4)]))
    assert [row["means"].shape for row in rows] == [(1, 512)] * 4


def test_an_engine_that_cannot_run_the_encoder_is_named_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise torch.onnx.OnnxExporterError("no such operator\nand much more")

    encoder = frozen("squeezenet1_1")
    said = r"^features.engine = openvino: it cannot run squeezenet1_1 \(no such operator\); write torch$"
    with monkeypatch.context() as patched:
        patched.setattr(engines, "traced", fails)
        with pytest.raises(UserError, match=said):
            engines.runs(encoder, Engine.openvino, 2, 1, bf16=False)
        with pytest.raises(
            UserError, match=r"^features.engine = openvino-int8: it .* \(no such operator\); write openvino$"
        ):
            engines.runs(encoder, Engine.openvino, 2, 1, bf16=False, examples=np.zeros((2, 3, 48, 48), np.uint8))
    monkeypatch.setattr(engines, "write_bytes", lambda path, _: path.write_bytes(b"no graph"))
    for engine in ENGINES:
        with pytest.raises(
            UserError, match=rf"^features.engine = {engine}: it cannot run squeezenet1_1 .*; write torch$"
        ):
            engines.runs(encoder, engine, 2, 1, bf16=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features.engine": "openvino"}, "features.engine = openvino runs a frozen encoder, and this one is trained"),
        (FROZEN | {"compute.portable": True}, "it cannot be limited to AVX2; write compute.portable: false, or torch"),
        (
            FROZEN | {"objects": "fasterrcnn_resnet50_fpn_v2/box_head"},
            "features.engine = openvino: objects = fasterrcnn_resnet50_fpn_v2/box_head reads a detector's vectors",
        ),
    ],
)
def test_an_engine_that_has_no_part_in_it_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(ROOT / "params.yaml", changes)


def test_an_engine_is_refused_where_vectors_are_a_users() -> None:
    with pytest.raises(UserError, match=r"features.engine = openvino, and feature.tsv .*; write torch, or take"):
        published_vectors.check(trainable=False, crop="none", engine="openvino", mirror=False)


@pytest.mark.parametrize("changes", [FROZEN, FROZEN | {"features.engine": "onnxruntime"}, {"features.engine": "torch"}])
def test_an_engine_that_can_run_the_encoder_is_taken(changes: dict[str, object]) -> None:
    check._machine(load(ROOT / "params.yaml", changes))


@pytest.mark.parametrize("package", ["openvino", "onnxscript"])
def test_the_check_and_the_stage_name_a_missing_package(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else there(name))
    said = rf"features.engine = openvino needs {package}: pip install 'captioning\[openvino\]'"
    settings = load(ROOT / "params.yaml", FROZEN)
    for stage in (check._machine, features.main):
        with pytest.raises(UserError, match=said):
            stage(settings)


def test_what_integers_need_is_missed_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    integers = load(ROOT / "params.yaml", FROZEN | {"features.engine": "openvino-int8"})
    capabilities = {"avx2": True, "avx512_vnni": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    with pytest.raises(
        UserError, match=r"openvino-int8: this CPU has no VNNI, and sums would overflow; write openvino$"
    ):
        check._machine(integers)
    capabilities["avx_vnni"] = True
    check._machine(integers)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else there(name))
    check._machine(load(ROOT / "params.yaml", FROZEN))
    with pytest.raises(UserError, match=r"openvino-int8 needs onnxruntime: pip install 'captioning\[onnx\]'"):
        check._machine(integers)


def test_a_gpu_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"features.engine = openvino: runs on CPUs, and this is a GPU; write torch"
    with pytest.raises(UserError, match=said):
        engines.check("openvino", "cuda")
    engines.check("torch", "cuda")
    monkeypatch.setattr(compute, "choose_device", lambda *_: "cuda")
    with pytest.raises(UserError, match=said):
        check._machine(load(ROOT / "params.yaml", FROZEN))


def test_the_stage_asks_the_engine_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(engines, "runs", lambda *these, **those: asked.append((*these, *those.values())))
    encoder, fabric = frozen("squeezenet1_1"), SimpleNamespace(device=SimpleNamespace(type="cpu"), autocast=nullcontext)
    torch.set_num_threads(2)

    def runs(**changes: object) -> list[engines.Run]:
        changed = {name.replace("__", "."): value for name, value in changes.items()}
        settings, pixels = load(ROOT / "params.yaml", FROZEN | changed), np.zeros(1)
        return features._runs(settings, fabric, lambda: pixels)(encoder)  # type: ignore[arg-type, return-value]

    for changes in ({}, {"compute__precision": "bf16-mixed"}, {"features__engine": "openvino-int8"}):
        runs(**changes)
    begin = encoder, Engine.openvino, 4, 2
    assert asked == [(*begin, False, None), (*begin, True, None), (*begin, False, np.zeros(1))]
    assert len(runs(features__engine="torch")) == 2
    assert len(asked) == 3


def test_integers_take_their_ranges_from_training_images(root: Path) -> None:
    table = pd.DataFrame(
        {"file": [f"images.zip/{i}.jpg" for i in range(4)], "split": ["val", "train", "test", "train"]}
    )
    with ImageArchives(root) as files:
        found = features._examples(table, files, TRANSFORM)
        expected = extraction.read_pixels(files, ["images.zip/1.jpg", "images.zip/3.jpg"], TRANSFORM)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "vit_b_16", "timm/test_nfnet"])
def test_torch_in_bfloat16_casts_weights_once_and_gives_the_same(name: str) -> None:
    """NFNet's convolutions standardise their weights, which is to be done in float32."""
    encoder = frozen(name)
    pixels = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    half = partial(torch.autocast, "cpu", torch.bfloat16)
    maps = [module for module in encoder.modules() if type(module) in (torch.nn.Conv2d, torch.nn.Linear)]
    with torch.inference_mode():
        with Casts() as each, half():
            expected = encoder(pixels)
        [run, *_] = by_torch(encoder, half)
        with Casts() as once:
            assert torch.equal(run(pixels), expected)
        assert not torch.equal(encoder(pixels), expected)
    assert once.count <= each.count - len(maps)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    assert by_torch(encoder)[0](pixels).dtype == torch.float32


def test_the_engine_and_its_versions_are_in_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("data/split/images.csv", "images.zip", "data/weights/weights.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("any")
    (tmp_path / "data/objects").mkdir()
    write_document(tmp_path / "data/objects/objects.json", {"kind": "none"})
    monkeypatch.chdir(tmp_path)
    settings = load(ROOT / "params.yaml", FROZEN)

    def key(engine: str) -> str:
        changed = settings.features.model_copy(update={"engine": engine})
        return features._key({}, changed, settings.compute, [Path("images.zip")])

    before, known = [key(engine) for engine in Engine], registry.version
    assert len(set(before)) == 3
    for package in (*registry.MADE_BY, "openvino"):
        with monkeypatch.context() as patched:
            patched.setattr(registry, "version", lambda name, it=package: "0" if name == it else known(name))
            assert key("openvino") not in before
            assert key("torch") == before[0]
    with monkeypatch.context() as patched:
        integers = key("openvino-int8")
        patched.setattr(registry, "version", lambda name: "0" if name == "onnxruntime" else known(name))
        assert len({*before, integers, key("openvino-int8")}) == 5
        assert key("openvino") in before


def test_a_package_of_another_distribution_has_a_version_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(registry, "version", absent)
    assert registry._version("onnxruntime") == onnxruntime.__version__
