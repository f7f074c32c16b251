"""An exported model as a folder.

export.json      the card: format, kind, graphs with the names of their inputs and outputs, digests, origin
encoder.onnx     the graphs (`graphs`); or for OpenVINO encoder.xml and encoder.bin
model.json       what of the model is read as it was: its record, words, statistics, calibration
vocab.txt …
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from captioning.captioner import cards, confidence
from captioning.captioner.cards import CONFIDENCE, STATISTICS
from captioning.data.runtimes import registry
from captioning.data.runtimes.registry import Engine, Kind
from captioning.data.text.vocabulary import Vocabulary
from captioning.engines.exported import Exported, GraphDecoder
from captioning.system.errors import UserError
from captioning.system.files import atomic, copy, digest, write_bytes
from captioning.system.sealed import read_document, write_document
from captioning.vision.features.unlikeness import KeptStatistics
from captioning.vision.images import Transform

NAME = "export.json"
FORMAT = 1
_GRAPHS = ("encoder", "init", "step")
_REMEDY = "export the model again"
_SUFFIXES = {Kind.onnx: "onnx", Kind.openvino: "xml"}


class _Graph(TypedDict):
    file: str
    inputs: list[str]
    outputs: list[str]


class ExportCard(TypedDict):
    """What export.json says. shared: of the decoder's state (`Decoder.shared`). source: the digest of model.json."""

    kind: Kind
    graphs: dict[str, _Graph]
    shared: int
    source: str
    libraries: dict[str, str]
    files: dict[str, str]


_CARD = TypeAdapter(ExportCard)


def is_exported(folder: Path) -> bool:
    """Is this the folder of an exported model?"""
    return (folder / NAME).is_file()


def libraries(kind: Kind) -> dict[str, str]:
    """The versions that an export depends on."""
    names = ("captioning", "torch", "torchvision", *registry.MADE_BY, *(("openvino",) if kind == Kind.openvino else ()))
    return {name: version(name) for name in names}


def write(source: Path, folder: Path, kind: Kind) -> ExportCard:
    """Export the model folder `source`; `folder` appears when it is whole. It takes seconds, and loads torch.

    Raises UserError as `captioner.model.load` does, and where a package is missing.
    """
    registry.check_export(kind)
    from captioning.captioner import model
    from captioning.data.objects.retrieval import Retrieval
    from captioning.data.objects.tables import shown_identity
    from captioning.decoders.base import RetrievalDecoder
    from captioning.engines import graphs

    captioner = model.load(source)
    if captioner.card.objects and not isinstance(captioner.beside, Retrieval):
        read = shown_identity(captioner.card.objects)
        raise UserError(f"{source}: this model reads objects = {read}, which graphs do not have; use --engine torch")
    if isinstance(captioner.decoder, RetrievalDecoder):
        raise UserError(
            f"{source}: the decoder {captioner.card.decoder} says no words step by step; use --engine torch"
        )
    traced = graphs.trace(captioner)
    with atomic(folder) as temporary:
        temporary.mkdir()
        for name, graph in traced.items():
            _write_graph(temporary, name, graph.data, kind)
        for name in (cards.NAME, "vocab.txt", STATISTICS, CONFIDENCE):
            if (source / name).is_file():
                copy(source / name, temporary / name)
        card = ExportCard(
            kind=kind,
            graphs={
                name: _Graph(file=f"{name}.{_SUFFIXES[kind]}", inputs=graph.inputs, outputs=graph.outputs)
                for name, graph in traced.items()
            },
            shared=captioner.decoder.shared,
            source=digest(source / cards.NAME),
            libraries=libraries(kind),
            files={path.name: digest(path) for path in sorted(temporary.iterdir())},
        )
        write_document(temporary / NAME, {"format": FORMAT, **card})
    return card


def _write_graph(folder: Path, name: str, data: bytes, kind: Kind) -> None:
    write_bytes(folder / f"{name}.onnx", data)
    if kind == Kind.openvino:
        import openvino

        path = folder / f"{name}.onnx"
        openvino.save_model(openvino.Core().read_model(path), folder / f"{name}.xml", compress_to_fp16=False)
        path.unlink()


def read_card(folder: Path) -> ExportCard:
    """The card of an exported model. Raises UserError unless all of its files are as they were written."""
    path = folder / NAME
    value = read_document(path, _REMEDY)
    if value.pop("format", None) != FORMAT:
        raise UserError(f"{path}: of another version of captioning; {_REMEDY}")
    try:
        card = _CARD.validate_python(value)
    except ValidationError as fault:
        raise UserError(f"{path}: damaged ({fault.errors()[0]['msg']}); {_REMEDY}") from None
    needed = {cards.NAME, "vocab.txt", *(graph["file"] for graph in card["graphs"].values())}
    if set(_GRAPHS) - card["graphs"].keys() or needed - card["files"].keys():
        raise UserError(f"{path}: damaged: a graph is missing; {_REMEDY}")
    _check_files(folder, card["files"])
    return card


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or digest(path) != expected:
            raise UserError(f"{path}: not the file that {NAME} describes; {_REMEDY}")


def load(folder: Path, engine: Engine, threads: int) -> Exported:
    """An exported model, run by an engine on so many threads.

    Raises UserError for a folder that is damaged, or that the engine does not run, and where it is not installed.
    """
    card = read_card(folder)
    registry.check_reads(engine, card["kind"], folder)
    registry.check_installed(engine, f"--engine {engine}")
    graphs = {name: registry.load(engine, folder / graph["file"], threads) for name, graph in card["graphs"].items()}
    record, vocabulary = cards.read(folder).card, Vocabulary.read(folder / "vocab.txt")
    decoder = GraphDecoder(vocabulary, card["shared"], graphs.pop("init"), graphs.pop("step"))
    kept = _statistics(folder) if "statistics" in graphs else None
    calibration = confidence.read(folder) if CONFIDENCE in card["files"] else None
    transform = Transform(**record.transform)
    return Exported(record, transform, vocabulary, decoder, graphs, kept, calibration)


def _statistics(folder: Path) -> KeptStatistics:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found: dict[str, Any] = load_file(folder / STATISTICS)
        return KeptStatistics.of(found)
    except (OSError, KeyError, SafetensorError):
        raise UserError(f"{folder / STATISTICS}: no statistics of images; {_REMEDY}") from None
