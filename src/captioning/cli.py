"""The command `captioning`: captions for one's own pictures; experiments are in `cli_experiments`."""

import glob
import hashlib
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from captioning import cli_experiments, cli_gallery, compute, released
from captioning.archives import SUFFIXES
from captioning.errors import UserError
from captioning.files import read_json, write_bytes
from captioning.settings import usual_beam

if TYPE_CHECKING:
    from captioning.ensembles import Captioners
    from captioning.search import Caption, SearchOptions

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
MODEL = Path("data/train/model")


app.command()(cli_experiments.compare)
app.command()(cli_experiments.report)
app.command()(cli_gallery.gallery)
app.add_typer(cli_experiments.suite_app, name="suite")


class Format(StrEnum):
    """How captions are printed."""

    text = "text"
    jsonl = "jsonl"


class Method(StrEnum):
    """How captions are searched; `SearchOptions` knows them by the same names."""

    beam = "beam"
    diverse = "diverse"
    sample = "sample"


class RankBy(StrEnum):
    """Which of the captions found is the best, as `SearchOptions` has it."""

    likelihood = "likelihood"
    consensus = "consensus"


_Paths = Annotated[list[str], typer.Argument(help="Pictures, folders of pictures, or patterns such as 'trip/*.jpg'.")]
_Models = Annotated[
    list[str] | None,
    Option(
        help="A model folder, or a commit, tag or experiment that has one; several: the mean of their probabilities.",
        show_default=str(MODEL),
    ),
]
_Repo = Annotated[str | None, Option(help="Address or path of the repository that --model names a revision of.")]
_Format = Annotated[Format, Option("--format", help="text: path, tab, caption; jsonl: an object a line.")]
_Method = Annotated[Method, Option(help="diverse: groups of beams avoid each other's words; sample: words are drawn.")]
_BeamSize = Annotated[
    int | None,
    Option(min=1, help="Hypotheses kept a step; 1 is greedy.", show_default="evaluate's, or for --n-best"),
]
_NBest = Annotated[
    int, Option(min=1, help="Captions a picture, best first; with score and log probability if several.")
]
_MaxWords = Annotated[int, Option(min=1, help="Longest caption, words.")]
_MinWords = Annotated[int, Option(min=0, help="Shortest caption, words.")]
_LengthPenalty = Annotated[float, Option(min=0, help="Likelihood: log probability / length to this power.")]
_RankBy = Annotated[RankBy, Option(help="The best caption: the likeliest, or the one most like all that were found.")]
_RepeatNgram = Annotated[int, Option(min=0, help="No n-gram of this size occurs twice; 0: no ban.")]
_Mirror = Annotated[bool, Option("--mirror", help="Read the mirrored picture too, and average the probabilities.")]
_Groups = Annotated[int, Option(min=1, help="diverse: groups that share the beam.")]
_Strength = Annotated[float, Option(min=0, help="diverse: nats that a word costs where an earlier group says it.")]
_Temperature = Annotated[float, Option(min=1e-9, help="sample: below 1 the likely words are likelier still.")]
_TopK = Annotated[int, Option(min=0, help="sample: words are drawn from so many, the likeliest; 0: from all.")]
_TopP = Annotated[float, Option(min=1e-9, max=1, help="sample: and from the fewest with this probability.")]
_Seed = Annotated[int, Option(min=0, help="sample: another seed draws other captions.")]
_Must = Annotated[list[str] | None, Option(help="beam: a word or phrase that captions must say; may be repeated.")]
_BatchSize = Annotated[int, Option(min=1, help="Pictures captioned together.")]
_Attention = Annotated[Path | None, Option(help="A folder: where the model looked, word by word, as a PNG a picture.")]


@app.callback()
def _captioning() -> None:
    """Image captioning: the experiments run through DVC (`dvc repro`), the trained model is used from here."""


@app.command()
def predict(
    paths: _Paths,
    model: _Models = None,
    repo: _Repo = None,
    output: _Format = Format.text,
    method: _Method = Method.beam,
    beam_size: _BeamSize = None,
    n_best: _NBest = 1,
    max_words: _MaxWords = 30,
    min_words: _MinWords = 0,
    length_penalty: _LengthPenalty = 1.0,
    rank_by: _RankBy = RankBy.likelihood,
    repeat_ngram: _RepeatNgram = 0,
    mirror: _Mirror = False,
    groups: _Groups = 3,
    strength: _Strength = 0.5,
    temperature: _Temperature = 1.0,
    top_k: _TopK = 0,
    top_p: _TopP = 1.0,
    seed: _Seed = 1,
    must: _Must = None,
    batch_size: _BatchSize = 16,
    attention: _Attention = None,
) -> None:
    """Caption pictures with a trained model, or with several as one.

    A file that cannot be read is reported and the rest go on; the exit status is then 1.
    """
    asked = locals()  # what concerns the search is called as SearchOptions calls it
    folders = released.folders(model, repo, MODEL)
    card = read_json(folders[0] / "model.json")
    compute.pin(portable=card["compute"]["portable"], threads=card["compute"]["threads"])
    from captioning import ensembles

    captioners = ensembles.load(folders, mirror=mirror)
    options = _options(captioners, asked)
    files, failed = _expand(paths)
    sheets = _sheets(captioners, attention, files) if attention else {}
    for start in range(0, len(files), batch_size):
        failed |= _caption(captioners, files[start : start + batch_size], options, output, sheets)
    raise typer.Exit(1 if failed else 0)


def _options(captioners: "Captioners", asked: dict[str, Any]) -> "SearchOptions":
    """How to search, as it was asked for. A beam size that was left out is as for `evaluate`."""
    from captioning.search import SearchOptions, phrases

    chosen = {name: asked[name] for name in SearchOptions.__dataclass_fields__}
    groups = chosen["groups"] if chosen["method"] is Method.diverse else 1
    usual = usual_beam(captioners.members[0].card.settings["dataset"], chosen["n_best"], groups)
    must = phrases(captioners.vocabulary, chosen["must"] or [])
    return SearchOptions(**chosen | {"beam_size": chosen["beam_size"] or usual, "must": must})


def _sheets(captioners: "Captioners", folder: Path, files: list[Path]) -> dict[Path, Path]:
    """Make the folder, and say where in it each picture's attention is drawn. Raises UserError when it cannot be."""
    from captioning.attention_maps import file_names, refusal

    reason = refusal(captioners.members[0])
    if len(captioners.members) > 1:
        reason = "it shows where one model looks, and several are averaged"
    if reason:
        raise UserError(f"--attention: {reason}; leave it out, or name another model with --model")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(f"--attention {folder}: no folder can be made there ({fault.strerror}); name another") from None
    return file_names(folder, files)


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


def _caption(
    captioners: "Captioners", paths: list[Path], options: "SearchOptions", output: Format, sheets: dict[Path, Path]
) -> bool:
    """Print captions for each picture, and draw the sheets that are wanted; return whether one of them failed."""
    import numpy as np
    import torch

    from captioning.images import decode

    pixels, files, read = [], [], []
    for path in paths:
        try:
            data = path.read_bytes()
            pixels.append(captioners.pixels(decode(data, str(path))))
            files.append(data)
            read.append(path)
        except UserError as fault:
            print(f"error: {fault}", file=sys.stderr)
        except OSError as fault:
            print(f"error: {path}: {fault.strerror}", file=sys.stderr)
    if read:
        stacked = [torch.from_numpy(np.stack(member)) for member in zip(*pixels, strict=True)]
        keys = [int(hashlib.sha256(data).hexdigest()[:16], 16) for data in files]
        for index, (path, captions) in enumerate(zip(read, captioners.captions(stacked, options, keys), strict=True)):
            if path in sheets:
                from captioning.attention_maps import draw_pixels

                drawn = draw_pixels(captioners.members[0], files[index], pixels[index][0], captions[0].text)
                write_bytes(sheets[path], drawn)
            print(_lines(path, captions, output, sheets.get(path), several=options.n_best > 1), flush=True)
    return len(read) < len(paths)


def _lines(path: Path, captions: "Sequence[Caption]", output: Format, sheet: Path | None, *, several: bool) -> str:
    """What is printed for a picture: its caption, or a list of them with their scores."""
    if output is Format.jsonl:
        listed: dict[str, Any] = {"captions": [caption.record() for caption in captions]} if several else {}
        drawn = {"attention": str(sheet)} if sheet else {}
        return json.dumps({"file": str(path), "caption": captions[0].text, **listed, **drawn}, ensure_ascii=False)
    numbers = [f"\t{caption.score:.4f}\t{caption.log_probability:.4f}" if several else "" for caption in captions]
    return "\n".join(f"{path}\t{caption.text}{said}" for caption, said in zip(captions, numbers, strict=True))


def main() -> None:
    """The entry point: a user's mistake is one line, and status 1."""
    try:
        app()
    except UserError as fault:
        sys.exit(f"error: {fault}")
