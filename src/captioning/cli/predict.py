"""The command `captioning predict`: captions for one's own images."""

import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from captioning.cli.embedded import UnwritableError
from captioning.cli.formats import Format
from captioning.cli.image_files import content, expand, is_there
from captioning.cli.notices import Notices
from captioning.cli.objects import Wanted
from captioning.cli.outputs import Outputs, Target
from captioning.cli.places import sheet_names, written
from captioning.cli.search_options import BEAM_SIZE, with_search_options
from captioning.data.runtimes.registry import Engine
from captioning.models import choice, loading
from captioning.system.errors import UserError
from captioning.system.files import write_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

    from captioning.models.base import Model
    from captioning.settings.search import SearchOptions

_Paths = Annotated[
    list[str],
    typer.Argument(
        help="Images, folders of images, patterns such as 'trip/*.jpg', or data/split/references_test.json: its images."
    ),
]
_Models = Annotated[
    list[str] | None,
    Option(
        help="A model folder, a shipped model (`captioning models`), or a commit, tag or experiment that has a model; "
        "several: the mean of their probabilities. hf:NAME: a captioner of transformers, a folder or a hub's name.",
        show_default=f"{choice.TRAINED} if it is one for photographs, else the shipped one",
    ),
]
_Repo = Annotated[str | None, Option(help="Address or path of the repository that --model names a revision of.")]
_Format = Annotated[
    Format, Option("--format", help="text: path, tab, caption; csv: with confidence; jsonl: an object a line.")
]
_Out = Annotated[
    Path | None, Option(help="A file for the captions. Images that it has already are left out: a stopped run goes on.")
]
_Write = Annotated[
    list[Target] | None,
    Option(
        "--write",
        help="Beside each image: txt (photo.txt), or xmp (photo.jpg.xmp, merged with what it says); "
        "in its own metadata: exif. Repeatable.",
    ),
]
_Overwrite = Annotated[bool, Option("--overwrite", help="Replace captions that --write finds beside or in images.")]
_Mirror = Annotated[bool, Option("--mirror", help="Read the mirrored image too, and average the probabilities.")]
_Must = Annotated[list[str] | None, Option(help="beam: a word or phrase that captions must contain; may be repeated.")]
_BatchSize = Annotated[int, Option(min=1, help="Images captioned together.")]
EngineOption = Annotated[
    Engine,
    Option("--engine", help="What runs the model. Others than torch start faster; the first time, it is exported."),
]
_Threads = Annotated[int | None, Option(min=1, help="CPU threads.", show_default="the model's")]
_Abstain = Annotated[
    float | None, Option(min=0, max=1, help="No caption where its confidence is below this; needs a calibrated model.")
]
_Attention = Annotated[
    Path | None, Option(help="A folder for attention maps: where the model looked, word by word, a PNG an image.")
]


_Labels = Annotated[
    Path | None,
    Option(
        help="The objects of each image, for a model that reads them: a label.tsv (docs/objects.md), or what "
        "--objects --format jsonl wrote, with your changes."
    ),
]
_Tags = Annotated[
    str | None,
    Option(help="Names that the model reads in place of those of the objects, as 'dog frisbee'; regions stay."),
]
_MustObjects = Annotated[
    bool,
    Option(
        "--must-objects",
        help="beam: captions must name objects that the model reads: two of the three surest, or the only one.",
    ),
]
_Objects = Annotated[
    bool, Option("--objects", help="List the objects that the model reads too, with score and box; not with csv.")
]
_Boxes = Annotated[
    Path | None, Option(help="A folder for images with boxes: what the model reads, and what the caption names of it.")
]


@with_search_options
def predict(
    paths: _Paths,
    model: _Models = None,
    repo: _Repo = None,
    output: _Format = Format.text,
    out: _Out = None,
    targets: _Write = None,
    overwrite: _Overwrite = False,
    mirror: _Mirror = False,
    must: _Must = None,
    batch_size: _BatchSize = 16,
    engine: EngineOption = Engine.torch,
    threads: _Threads = None,
    abstain: _Abstain = None,
    attention: _Attention = None,
    labels: _Labels = None,
    list_objects: _Objects = False,
    boxes: _Boxes = None,
    tags: _Tags = None,
    must_objects: _MustObjects = False,
    **search: Any,
) -> None:
    """Caption images with a trained model, or with several as one.

    A file that cannot be read, or not written with `--write exif`, is reported and the rest go on; the exit status is
    then 1. Captions are printed on standard output, and on standard error which model is used, and which images are
    unlike its training images.
    """
    notices = Notices()
    expanded, failed = expand(paths)
    files = [path for path in expanded if is_there(path, notices)]
    outputs = Outputs.open(files, output, out, targets or [], overwrite=overwrite, n_best=search["n_best"])
    pending = outputs.unfinished(files)
    if pending:
        loaded = loading.named(model, repo, threads=threads, mirror=mirror, engine=engine)
        options = loaded.options(must=must or [], beam_size=search.pop(BEAM_SIZE), **search)
        _check_confidence(loaded, abstain)
        lines = output is Format.csv or (output is Format.text and out is not None)
        wanted = Wanted.of_options(
            loaded, labels, tags, boxes, pending, options, listed=list_objects, lines=lines, named=must_objects
        )
        sheets = _sheets(loaded, attention, pending) if attention else {}
        notices.begin(loaded)
        for batch in _batches(pending, batch_size):
            _caption(loaded, batch, options, outputs, sheets, notices, abstain, wanted)
            outputs.sync()
    notices.end(len(expanded))
    raise typer.Exit(1 if failed or notices.skipped or outputs.unable else 0)


def _check_confidence(model: "Model", abstain: float | None) -> None:
    """Raise UserError where captions have no confidence to compare."""
    if abstain is not None and not model.calibrated:
        raise UserError(
            "--abstain: this model has no calibrated confidence; leave it out, or use `--model photographs`"
        )


def _sheets(model: "Model", folder: Path, files: Sequence[Path]) -> dict[Path, Path]:
    """Make the folder, and say where in it each image's attention is drawn. Raises UserError when it cannot be."""
    if reason := model.no_attention():
        raise UserError(f"--attention: {reason}; leave it out, or name another model with --model")
    return sheet_names("--attention", folder, files)


def _batches(files: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    """The files in batches; with more than one of them, a terminal shows a bar with rate and time left."""
    from tqdm import tqdm

    hidden = len(files) <= size or sys.stdout.isatty()  # captions on a terminal are progress enough
    with tqdm(total=len(files), unit="image", disable=True if hidden else None) as bar:
        for start in range(0, len(files), size):
            batch = files[start : start + size]
            yield batch
            bar.update(len(batch))


def _caption(
    model: "Model",
    paths: Sequence[Path],
    options: "SearchOptions",
    outputs: Outputs,
    sheets: dict[Path, Path],
    notices: Notices,
    abstain: float | None,
    wanted: Wanted,
) -> None:
    """Write captions for each image, and draw the sheets that are wanted."""
    from captioning.evaluation.object_boxes import draw
    from captioning.models.sources import read

    images, there = [], []
    for path in paths:
        try:
            image = read(content(path))
            there.append(wanted.found(model, path, image))
            images.append((path, image))
        except (UserError, OSError) as fault:
            notices.skip(path, fault)
    opened = [image for _, image in images]
    results = wanted.captions(model, opened, there, options) if model.objects else model.batch(opened, options)
    for (path, source), captioned, found in zip(images, results, there, strict=True):
        best, sheet = captioned.captions[0], sheets.get(path)
        if captioned.unlike:
            notices.differs(path)
        if abstain is not None and best.confidence is not None and best.confidence < abstain:
            notices.abstain(path, best.confidence)
            continue
        if sheet:
            _save("--attention", sheet, model.sheet(source.image, best))
        if path in wanted.drawn:
            _save("--boxes", wanted.drawn[path], draw(source.image, [(one.name, one.box) for one in found], best.words))
        try:
            listed = found if wanted.listed else None
            outputs.add(path, captioned.captions, sheet, several=options.n_best > 1, objects=listed)
        except UnwritableError as fault:
            notices.skip(path, fault)


def _save(option: str, path: Path, image: "Image") -> None:
    """Write an image as a PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    with written(option, path):
        write_bytes(path, stream.getvalue())
