"""The command `captioning`: captions for one's own pictures; experiments are in `cli_experiments`."""

import glob
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captioning import cli_experiments, compute
from captioning.archives import SUFFIXES
from captioning.errors import UserError
from captioning.files import read_json

if TYPE_CHECKING:
    from captioning.model import Captioner
    from captioning.search import SearchOptions

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


app.command()(cli_experiments.compare)
app.add_typer(cli_experiments.suite_app, name="suite")


class Format(StrEnum):
    """How captions are printed."""

    text = "text"
    jsonl = "jsonl"


@app.callback()
def _captioning() -> None:
    """Image captioning: the experiments run through DVC (`dvc repro`), the trained model is used from here."""


@app.command()
def predict(
    paths: Annotated[
        list[str], typer.Argument(help="Pictures, folders of pictures, or patterns such as 'trip/*.jpg'.")
    ],
    model: Annotated[Path, typer.Option(help="The model folder.")] = Path("data/train/model"),
    output: Annotated[
        Format, typer.Option("--format", help="text: path, tab, caption; jsonl: an object a line.")
    ] = Format.text,
    beam_size: Annotated[int, typer.Option(min=1, help="Hypotheses kept a step; 1 is greedy.")] = 3,
    max_words: Annotated[int, typer.Option(min=1, help="Longest caption, words.")] = 30,
    length_penalty: Annotated[
        float, typer.Option(min=0, help="Captions are ranked by log probability / length to this power.")
    ] = 1.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures captioned together.")] = 16,
) -> None:
    """Caption pictures with a trained model.

    A file that cannot be read is reported and the rest go on; the exit status is then 1.
    """
    card = read_json(model / "model.json")
    compute.pin(portable=card["compute"]["portable"], threads=card["compute"]["threads"])
    from captioning.model import load
    from captioning.search import SearchOptions

    captioner = load(model)
    options = SearchOptions(beam_size=beam_size, max_words=max_words, length_penalty=length_penalty)
    files, failed = _expand(paths)
    for start in range(0, len(files), batch_size):
        failed |= _caption(captioner, files[start : start + batch_size], options, output)
    raise typer.Exit(1 if failed else 0)


def _expand(paths: list[str]) -> tuple[list[Path], bool]:
    """Folders become their pictures and patterns their matches, sorted; and whether one of them had none."""
    files: list[Path] = []
    failed = False
    for path in paths:
        found = [Path(path)]
        if Path(path).is_dir():
            found = sorted(file for file in Path(path).rglob("*") if file.suffix.lower() in SUFFIXES)
        elif glob.has_magic(path) and not Path(path).exists():
            found = [Path(match) for match in sorted(glob.glob(path, recursive=True))]  # noqa: PTH207 - absolute too
        if not found:
            print(f"error: {path}: no pictures there ({' '.join(sorted(SUFFIXES))})", file=sys.stderr)
        files += found
        failed |= not found
    return files, failed


def _caption(captioner: "Captioner", paths: list[Path], options: "SearchOptions", output: Format) -> bool:
    """Print a caption for each picture; return whether one of them failed."""
    import numpy as np
    import torch

    from captioning.images import decode

    pixels, read = [], []
    for path in paths:
        try:
            pixels.append(captioner.transform.pixels(decode(path.read_bytes(), str(path))))
            read.append(path)
        except UserError as fault:
            print(f"error: {fault}", file=sys.stderr)
        except OSError as fault:
            print(f"error: {path}: {fault.strerror}", file=sys.stderr)
    if read:
        captions = captioner.caption(torch.from_numpy(np.stack(pixels)), options)
        for path, caption in zip(read, captions, strict=True):
            print(_line(path, caption, output), flush=True)
    return len(read) < len(paths)


def _line(path: Path, caption: str, output: Format) -> str:
    if output is Format.jsonl:
        return json.dumps({"file": str(path), "caption": caption}, ensure_ascii=False)
    return f"{path}\t{caption}"


def main() -> None:
    """The entry point: a user's mistake is one line, and status 1."""
    try:
        app()
    except UserError as fault:
        sys.exit(f"error: {fault}")
