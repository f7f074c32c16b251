"""`captioning export`: a model in a form that other engines than torch run."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from captioning.cli.places import written
from captioning.data.runtimes.registry import Kind
from captioning.models import choice, exporting
from captioning.system import compute

_Model = Annotated[str, Argument(help="As --model of `captioning predict`.")]
_To = Annotated[Kind, Option(help="onnx: for ONNX Runtime, OpenVINO and others. openvino: its own form.")]
_Out = Annotated[Path, Option(help="The folder to write.")]


def export(model: _Model, *, to: _To = Kind.onnx, out: _Out) -> None:
    """Export a model: its encoder, and its decoder's first and further steps, as graphs in float32.

    `captioning predict --model FOLDER --engine onnxruntime` captions with it, and never loads torch.
    """
    exporting.check(out, to)
    [found] = choice.models([model], None)
    compute.pin(portable=True, threads=1)
    with written("--out", out):
        card = exporting.export(model, found.folder, out, to)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{out}: {', '.join(card['graphs'])} for {to}, {size / 1e6:.1f} MB")
