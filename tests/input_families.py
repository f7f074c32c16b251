"""Kinds of files that commands are given, and that the newer stages read; `tests.inputs` damages them."""

import contextlib
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from captioning.captioner import cards, confidence
from captioning.captioner.confidence import CONFIDENCE, Calibration
from captioning.cli.formats import Format, OutputFile
from captioning.cli.image_files import expand, is_there
from captioning.cli.notices import Notices
from captioning.cli.review import review
from captioning.cli.sidecars import Sidecar, is_described, write
from captioning.data.datasets.scenes import facts
from captioning.data.datasets.scenes.composition import Actor, Scene
from captioning.data.objects import instances, sources, tables
from captioning.data.objects.labels import Found, Predicted, read_labels, write_labels, write_predictions
from captioning.data.objects.rows import Table
from captioning.data.objects.tables import shown_identity
from captioning.data.objects.vectors import read_vectors, write_vectors
from captioning.engines import folders
from captioning.experiments import scoring
from captioning.models.descriptions import describe
from captioning.models.inventory import Entry
from captioning.models.objects import Labels
from captioning.settings import text_models
from captioning.system import state_dicts
from captioning.system.documents import parse_json
from captioning.system.files import digest
from captioning.system.sealed import write_document
from tests.damaged_bytes import Family, written

NAMES = {
    "references": "a.json",
    "captions, JSON": "a.json",
    "captions, JSON lines": "a.jsonl",
    "captions, CSV": "a.csv",
    "captions to review": "a.json",
    "captions, half of them": "a.jsonl",
    "references to caption": "a.json",
    "label.tsv": "label.tsv",
    "predictions.tsv": "predictions.tsv",
    "feature.tsv": "feature.tsv",
    "own objects": "label.tsv",
    "facts": facts.FILE,
    "text model, sizes": "config.json",
    "text model, pieces": "vocab.txt",
    "state dict": "a.safetensors",
    "exported model": folders.NAME,
    "model.json of an older version": cards.NAME,
    "calibration": CONFIDENCE,
    "sidecar": "a.jpg.xmp",
    "edited objects": "a.jsonl",
}
_GRAPHS = ("encoder", "init", "step")
_IMAGES = ("a/1.jpg", "a/2.jpg")
_DOCUMENT = {
    "images": [{"id": number, "file_name": file} for number, file in enumerate(_IMAGES, 1)],
    "annotations": [{"id": n, "image_id": 1 + n % 2, "caption": f"a dog runs {n}"} for n in range(4)],
}
_RESULTS = [{"image_id": number, "caption": f"a dog {number}", "confidence": 0.5} for number in (1, 2)]
_PREDICTED = [{"file": name, "caption": "a dog", "confidence": 0.5} for name in _IMAGES]
_OBJECTS = [Found("dog", 0.9, (1.0, 2.0, 30.0, 40.0)), Found("cat", 0.5, (0.0, 0.0, 9.5, 9.0))]
_COCO = {
    "images": [{"id": 1, "width": 64, "height": 48}],
    "annotations": [{"image_id": 1, "category_id": 3, "bbox": [1.5, 2, 30, 20], "iscrowd": 0}],
    "categories": [{"id": 3, "name": "dog"}],
}
_OLD = {
    **{name: {} for name in ("decoder_options", "transform")},
    **{"format": 1, "encoder": "resnet18", "decoder": "lstm", "sha256": dict.fromkeys(cards.FILES, "0" * 64)},
    **{"compute": {"portable": True, "threads": 1}, "settings": {"dataset": "scenes"}, "scores": {"val/cider": 0.5}},
    "provenance": {"objects": {"kind": "labels", "source": "facts of the drawing"}},
}
_BERT = dict.fromkeys(("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"), 2)
_SCENE = Scene("7", "park", "sunny", (Actor("boy", "red", "running"),), None, "left")
_MADE = {  # the files beside a damaged one, by its name: each with a digest
    "own objects": lambda folder: tables.write(folder, {"1": _OBJECTS, "2": []}, {"1": (64, 48), "2": (9, 9)}, {}),
    "facts": lambda folder: facts.write_facts(folder / facts.FILE, {"1": _SCENE, "2": _SCENE}),
}


def families() -> list[Family]:
    """Captions and references of other programs, tables of objects, text models, exported models, sidecars."""
    lines = "".join(f"{json.dumps(one)}\n" for one in _PREDICTED).encode()
    return [
        _json("references", _DOCUMENT, _score_references),
        _json("captions, JSON", _RESULTS, _score_captions),
        Family("captions, JSON lines", lines, _score_captions),
        Family("captions, CSV", b'file,caption\n1.jpg,a dog\n2.jpg,"a, b"\n', _score_captions),
        _json("captions to review", _PREDICTED, _reviewed),
        Family("captions, half of them", lines, lambda path: OutputFile(path, Format.jsonl).done),
        _json("references to caption", _DOCUMENT, _expanded),
        Family("label.tsv", written(_write_labels), read_labels),
        Family("predictions.tsv", written(_write_predictions), read_labels),
        Family("feature.tsv", written(_write_vectors), _vectors),
        Family("own objects", _whole("own objects"), partial(_beside, "own objects", _read_objects), exact=True),
        Family("sources of objects", b"label: train.label.tsv\nfeature: train.feature.tsv\n", sources.read_sources),
        _json("COCO's instances", _COCO, _instances),
        Family("facts", _whole("facts"), partial(_beside, "facts", _read_facts), exact=True),
        _json("text model, sizes", _BERT, _of_folder(text_models.sizes)),
        Family("text model, pieces", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##s\n", _of_folder(text_models.pieces)),
        Family("state dict", written(_write_state), _state),
        _json("model.json of an older version", _OLD, _described),
        Family("exported model", written(_write_export, folders.NAME), _exported, exact=True),
        Family("calibration", written(_write_calibration, CONFIDENCE), _of_folder(confidence.read), exact=True),
        Family("sidecar", written(_write_sidecar, "a.jpg.xmp"), _sidecar),
        Family("edited objects", _listed(), lambda path: vars(Labels(path, {}))),
    ]


def _listed() -> bytes:
    rows = [{"file": name, "objects": [one.record() for one in _OBJECTS]} for name in _IMAGES]
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _json(name: str, document: object, read: Callable[[Path], Any]) -> Family:
    return Family(name, json.dumps(document).encode(), read)


def _whole(kind: str) -> bytes:
    def write(path: Path) -> None:
        _MADE[kind](path.parent)

    return written(write, NAMES[kind])


def _beside(kind: str, read: Callable[[Path], Any], path: Path) -> Any:
    """What is read of a folder in which one file is the damaged one, and the others are whole."""
    data = path.read_bytes()
    _MADE[kind](path.parent)
    path.write_bytes(data)
    return read(path.parent)


def _read_objects(folder: Path) -> Any:
    table = tables.Objects(folder)
    return table.found, table.sizes, table.classes


def _read_facts(folder: Path) -> Any:
    return facts.read_facts(folder / facts.FILE)


def _of_folder(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda path: read(path.parent)


def _score_references(path: Path) -> Any:
    other = path.with_name("captions.json")
    other.write_text(json.dumps(_RESULTS))
    return _printed(scoring.score(path, [other], draws=20))


def _score_captions(path: Path) -> Any:
    other = path.with_name("references.json")
    other.write_text(json.dumps(_DOCUMENT))
    return _printed(scoring.score(other, [path], draws=20))


def _printed(scored: scoring.Scored) -> str:
    return json.dumps([scoring.rows(scored), scoring.notes(scored), scoring.document(scored)])


def _reviewed(path: Path) -> None:
    with contextlib.chdir(path.parent), contextlib.redirect_stdout(io.StringIO()):
        for image in map(Path, _IMAGES):
            image.parent.mkdir(exist_ok=True)
            image.write_bytes(b"")
        review(Path(path.name), Path("page.html"))


def _write_predictions(path: Path) -> None:
    write_predictions(path, [("1", Predicted(_OBJECTS, ["AAAA", None]))])


def _write_labels(path: Path) -> None:
    write_labels(path, {"1": _OBJECTS, "2": []})


def _write_vectors(path: Path) -> None:
    write_vectors(path, [("1", np.arange(12, dtype=np.float32).reshape(2, 6))])


def _vectors(path: Path) -> Any:
    return [read_vectors(row, 6).tolist() for row in Table(path)]


def _instances(path: Path) -> Any:
    document = parse_json(path.read_bytes(), "a", instances._SHAPE)
    return instances._read(document, "a", {"1": (32, 24)})


def _write_state(path: Path) -> None:
    path.write_bytes(save({"a.weight": np.ones((2, 3), np.float32), "a.bias": np.zeros(2, np.float32)}))


def _state(path: Path) -> Any:
    return {name: tensor.shape for name, tensor in state_dicts.read(path).items()}


def _write_export(path: Path) -> None:
    files = [cards.NAME, "vocab.txt", *(f"{name}.onnx" for name in _GRAPHS)]
    for name in files:
        path.with_name(name).write_bytes(b"whole")
    graphs = {name: {"file": f"{name}.onnx", "inputs": [], "outputs": []} for name in _GRAPHS}
    digests = {name: digest(path.with_name(name)) for name in files}
    card = {"kind": "onnx", "graphs": graphs, "shared": 0, "source": "", "libraries": {}, "files": digests}
    write_document(path, {"format": folders.FORMAT, **card})


def _described(path: Path) -> Any:
    record = cards.read(path.parent)
    entry = Entry("a", "trained here", record.card, 0)
    return describe("a", record.card, keeps_statistics=False), entry.description(), shown_identity(record.card.objects)


def _exported(path: Path) -> Any:
    data = path.read_bytes()
    _write_export(path)
    path.write_bytes(data)
    return folders.read_card(path.parent)


def _expanded(path: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        for image in expand([str(path)])[0]:
            is_there(image, Notices())


def _write_calibration(path: Path) -> None:
    confidence.write(path.parent, Calibration((0.0,) * 4, (1.0,) * 4, (0.5,) * 4, 0.1, "true", 9))


def _write_sidecar(path: Path) -> None:
    write(path.with_name("a.jpg"), Sidecar.xmp, "a dog")


def _sidecar(path: Path) -> None:
    image = path.with_name("a.jpg")
    if not is_described(image, Sidecar.xmp):
        write(image, Sidecar.xmp, "a cat")
