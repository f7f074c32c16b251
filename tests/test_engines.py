"""Exported models: the captions of torch, by every decoder and search; what is damaged, or missing, is refused."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import captioning
from captioning.captioner import model
from captioning.cli.app import app
from captioning.data.runtimes import registry, tracing
from captioning.data.runtimes.registry import Engine, Kind
from captioning.decoders.base import Decoder
from captioning.engines import cache, folders, graphs
from captioning.engines.exported import GraphDecoder
from captioning.search import n_best
from captioning.system.errors import UserError
from captioning.vision.encoders.encoded import Encoded
from captioning.vision.features.unlikeness import KeptStatistics, statistics
from tests.noise import noise
from tests.test_ensembles import METHODS, folder
from tests.variants import VARIANTS, WORDS, build, images

ENGINES = [Engine.onnxruntime, Engine.openvino]
ENCODER, SIDE = "squeezenet1_1", 64


class Pair(NamedTuple):
    """A decoder of torch, and the folder of its graphs."""

    decoder: Decoder
    folder: Path

    def by(self, engine: Engine) -> GraphDecoder:
        init, step = (registry.load(engine, self.folder / f"{name}.onnx", 1) for name in ("init", "step"))
        return GraphDecoder(self.decoder.vocabulary, self.decoder.shared, init, step)


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    place, decoder = tmp_path_factory.mktemp("graphs"), build(request.param).eval()
    for name, graph in graphs.trace_decoder(decoder, images(2)).items():
        (place / f"{name}.onnx").write_bytes(graph.data)
    return Pair(decoder, place)


def arrays(encoded: Encoded) -> Encoded:
    return Encoded(*(None if part is None else part.numpy() for part in encoded))  # type: ignore[arg-type]


@torch.inference_mode()
def logits(decoder: Decoder | GraphDecoder, count: int, tokens: np.ndarray) -> list[np.ndarray]:
    """Those after each of tokens (T, count * K), of K hypotheses of each of `count` images."""
    exported, found = isinstance(decoder, GraphDecoder), []
    state = [np.asarray(part) for part in decoder.init(arrays(images(count)) if exported else images(count))]
    own = len(state) - decoder.shared
    state = [*(part.repeat(tokens.shape[1] // count, 0) for part in state[:own]), *state[own:]]
    for read in tokens:
        made = (lambda part: part) if exported else torch.from_numpy
        said, after = decoder.step(made(read), tuple(map(made, state)))
        state = [np.asarray(part) for part in after]
        found.append(np.asarray(said))
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("count", "each"), [(1, 1), (1, 3), (3, 2)])
def test_logits_are_those_of_torch(pair: Pair, engine: Engine, count: int, each: int) -> None:
    tokens = np.random.default_rng(5).integers(4, WORDS, (10, count * each))
    expected = logits(pair.decoder, count, tokens)
    np.testing.assert_allclose(logits(pair.by(engine), count, tokens), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", METHODS)
def test_every_search_finds_what_it_finds_with_torch(pair: Pair, engine: Engine, method: str) -> None:
    expected = n_best(pair.decoder, images(4), METHODS[method], keys=range(4))
    found = n_best(pair.by(engine), arrays(images(4)), METHODS[method], keys=range(4))
    for mine, theirs in zip(found, expected, strict=True):
        assert [h.ids for h in mine] == [h.ids for h in theirs]
        assert [h.log_probability for h in mine] == pytest.approx([h.log_probability for h in theirs], abs=1e-3)


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that keeps statistics of images."""
    place = tmp_path_factory.mktemp("source")
    plain = model.load(folder(place / "plain", "attention-soft", encoder=ENCODER, side=SIDE))
    kept = statistics(torch.from_numpy(pixels(60)))
    states = plain.encoder.body.state_dict(), plain.decoder.state_dict()
    model.save(place / "model", plain.card, *states, plain.vocabulary, KeptStatistics(kept[:40], kept[40:]))
    return place / "model"


@pytest.fixture(scope="module")
def exported(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("exported") / "model"
    folders.write(source, place, Kind.onnx)
    return place


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    noise((90, 70), 80).save(path)
    return path


def test_images_are_as_unlike_as_with_torch(source: Path, exported: Path) -> None:
    for image in (Image.new("RGB", (70, 70), "white"), noise((80, 80), 60)):
        distances = [
            one.captioners.distances([part[None] for part in one.captioners.pixels(image)])
            for one in (captioning.load(source), captioning.load(exported, engine="onnxruntime"))
        ]
        assert distances[0] == pytest.approx(distances[1], rel=1e-3)


def test_several_models_and_mirrored_images(source: Path, exported: Path, tmp_path: Path, photo: Path) -> None:
    other = folder(tmp_path / "other", "lstm", seed=3, encoder=ENCODER, side=SIDE)
    folders.write(other, tmp_path / "exported", Kind.onnx)
    expected = captioning.load([source, other], mirror=True)(photo, n_best=3)
    found = captioning.load([exported, tmp_path / "exported"], mirror=True, engine="onnxruntime")
    assert [caption.text for caption in found(photo, n_best=3)] == [caption.text for caption in expected]


def test_predict_loads_no_torch(source: Path, exported: Path, photo: Path) -> None:
    """Nor dvc, nor any other command of `captioning`; and the caption is that of torch."""
    code = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['torchvision'] = sys.modules['dvc'] = None\n"
        "from captioning.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "predict", str(photo), "--model", str(exported), "--engine", "onnxruntime"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{photo}\t{captioning.load(source)(photo).text}\n"


def test_openvino_reads_its_own_form_also_without_the_newest_instructions(tmp_path: Path, photo: Path) -> None:
    """A transformer's state grows; OpenVINO 2026.4 computed that wrongly on AVX2, after eight words."""
    source, exported = folder(tmp_path / "model", "transformer", encoder=ENCODER, side=SIDE), tmp_path / "exported"
    done = CliRunner().invoke(app, ["export", str(source), "--to", "openvino", "--out", str(exported)])
    assert done.exit_code == 0, done.output
    assert {path.suffix for path in exported.iterdir()} == {".xml", ".bin", ".json", ".txt"}
    code = (
        "import sys, captioning\n"
        "caption = captioning.load(sys.argv[1], engine='openvino')(sys.argv[2], beam_size=5, min_words=14)\n"
        "print(caption.text)\n"
    )
    expected = captioning.load(source)(photo, beam_size=5, min_words=14).text
    for instructions in ("AVX2", "DEFAULT"):
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions}
        command = [sys.executable, "-c", code, str(exported), str(photo)]
        found = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
        assert found == f"{expected}\n"


def test_a_signal_is_heeded_after_models_of_openvino_were_let_go(exported: Path, photo: Path) -> None:
    """In a process of its own, which a wrong stack for signals would end with SIGSEGV."""
    code = (
        "import signal, sys, captioning\n"
        "came = []\n"
        "signal.signal(signal.SIGTERM, lambda number, _: came.append(number))\n"
        "for _ in range(2):\n"
        "    model = captioning.load(sys.argv[1], engine='openvino')\n"
        "    model(sys.argv[2])\n"
        "del model\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "print(len(came))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(exported), str(photo)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_model_is_exported_once(
    source: Path,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Into the user's cache; a damaged export is made anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(folders, "write", lambda _, place, __: shutil.copytree(exported, place, dirs_exist_ok=True))
    first = cache.load(source, Engine.onnxruntime, 1).encode(pixels(1)).mean
    assert "exporting model for onnxruntime: once" in capsys.readouterr().err
    again = cache.load(source, Engine.openvino, 1).encode(pixels(1)).mean
    assert capsys.readouterr().err == ""
    np.testing.assert_allclose(first, again, atol=1e-4)
    graph = cache.place(source) / "step.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    cache.load(source, Engine.onnxruntime, 1)
    assert "once" in capsys.readouterr().err
    cache.load(source, Engine.onnxruntime, 1)
    assert capsys.readouterr().err == ""


def test_other_code_exports_anew(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of a decoder, or of what makes graphs, and plain kernels: what was kept is of another key."""
    places = [cache.place(source)]
    assert {"decoders/lstm.py", "engines/graphs.py", "vision/encoders/encoders.py"} <= cache._code().keys()
    edited = tmp_path / "graphs.py"
    edited.write_text("# edited\n")
    code = cache._code() | {"engines/graphs.py": edited}
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_code", lambda: code)
        places.append(cache.place(source))
    monkeypatch.setenv("CAPTIONING_PLAIN_KERNELS", "1")
    places.append(cache.place(source))
    assert len(set(places)) == 3


def test_the_same_model_gives_the_same_bytes_and_no_path_of_this_machine(
    source: Path, exported: Path, tmp_path: Path
) -> None:
    folders.write(source, tmp_path / "again", Kind.onnx)
    for path in exported.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
        assert b"/captioning/" not in path.read_bytes()


def test_what_is_damaged_is_refused(exported: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    (copy / "vocab.txt").write_bytes(b"x")
    with pytest.raises(UserError, match=r"vocab.txt: not the file that export.json describes; export the model again"):
        folders.load(copy, Engine.onnxruntime, 1)
    card = json.loads((copy / "export.json").read_text())
    (copy / "export.json").write_text(json.dumps(card | {"shared": 2}))
    with pytest.raises(UserError, match=r"export.json: damaged, or not written by this version"):
        folders.load(copy, Engine.onnxruntime, 1)


def test_what_does_not_fit_is_refused_in_one_line(exported: Path, source: Path, tmp_path: Path, photo: Path) -> None:
    with pytest.raises(UserError, match=r"exported to onnx, which torch does not run; write --engine onnxruntime or"):
        captioning.load(exported)
    with pytest.raises(UserError, match=r"engine = 'tensorrt': there are torch, onnxruntime, openvino"):
        captioning.load(source, engine="tensorrt")
    (tmp_path / "mine").mkdir()
    for arguments, said in (
        (["export", str(source), "--out", str(tmp_path / "mine")], "is there already, and is no exported model"),
        (["export", str(exported), "--out", str(tmp_path / "x")], "is an exported model; name the model that it was"),
    ):
        fault = CliRunner().invoke(app, arguments).exception
        assert isinstance(fault, UserError)
        assert said in str(fault)
    loaded = captioning.load(exported, engine="onnxruntime")
    assert loaded(photo).attention is None
    assert loaded.no_attention() == "onnxruntime gives captions alone; --engine torch gives attention too"


@pytest.mark.parametrize(("engine", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_missing_package_is_named_with_its_extra(
    exported: Path, monkeypatch: pytest.MonkeyPatch, engine: str, extra: str
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == engine else there(name))
    with pytest.raises(UserError, match=rf"--engine {engine} needs {engine}: pip install 'captioning\[{extra}\]'"):
        captioning.load(exported, engine=engine)


def test_all_that_graphs_are_made_by_is_in_the_key_of_exports() -> None:
    """Each module that computes, of those that `graphs` imports; settings and scores decide nothing of a graph."""
    code = "import sys, captioning.engines.graphs; print(*(n for n in sys.modules if n.startswith('captioning.')))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "captioning.data.runtimes.tracing" in found
    kept = {name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in cache._code()}
    decides = ("captioner", "data.runtimes", "decoders", "engines", "kernels", "vision")
    needed = {name.removeprefix("captioning.") for name in found}
    assert {name for name in needed if name.startswith(decides)} <= kept


def test_a_value_on_the_way_may_have_the_name_of_an_output() -> None:
    """As in networks that squeeze with a mean: x → mean → scaled, of which `mean` is the output."""
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [node("Neg", ["x"], ["mean"]), node("Exp", ["mean"], ["scaled"]), node("Neg", ["scaled"], ["mean"])]
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(nodes, "two", [info("x", kind, [1])], [info("mean", kind, [1])])
    tracing._tell_apart(graph)
    onnx.checker.check_graph(graph)
    assert [(*one.input, *one.output) for one in graph.node] == [
        ("x", "mean_inside"),
        ("mean_inside", "scaled"),
        ("scaled", "mean"),
    ]
