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
from captioning.cli.outputs import Outputs, Target
from captioning.cli.places import written
from captioning.cli.search_options import BEAM_SIZE, with_search_options
from captioning.engines.registry import Engine
from captioning.models import choice, loading
from captioning.system.errors import UserError
from captioning.system.files import write_bytes

if TYPE_CHECKING:
    from captioning.models.base import Caption, Model
    from captioning.models.objects import Labels
    from captioning.models.sources import Read
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
    Option(help="A label.tsv with the objects of each image, for a model that reads them (docs/objects.md)."),
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
        objects = _objects(loaded, labels)
        sheets = _sheets(loaded, attention, pending) if attention else {}
        notices.begin(loaded)
        for batch in _batches(pending, batch_size):
            _caption(loaded, batch, options, outputs, sheets, notices, abstain, objects)
            outputs.sync()
    notices.end(len(expanded))
    raise typer.Exit(1 if failed or notices.skipped or outputs.unable else 0)


def _check_confidence(model: "Model", abstain: float | None) -> None:
    """Raise UserError where captions have no confidence to compare."""
    if abstain is not None and not model.calibrated:
        raise UserError(
            "--abstain: this model has no calibrated confidence; leave it out, or use `--model photographs`"
        )


def _objects(model: "Model", labels: Path | None) -> "Labels | None":
    """The table that is named. Raises UserError where the model needs one and none is named, or the other way round."""
    if labels is None:
        model.refuse_objects("name a table of them with --labels FILE")
        return None
    if not model.objects:
        raise UserError("--labels: this model reads no objects; leave it out")
    from captioning.models.objects import Labels

    return Labels(labels)


def _sheets(model: "Model", folder: Path, files: Sequence[Path]) -> dict[Path, Path]:
    """Make the folder, and say where in it each image's attention is drawn. Raises UserError when it cannot be."""
    if reason := model.no_attention():
        raise UserError(f"--attention: {reason}; leave it out, or name another model with --model")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(f"--attention {folder}: cannot be created ({fault.strerror}); name another") from None
    from captioning.evaluation.attention_maps import file_names

    return file_names(folder, files)


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
    objects: "Labels | None",
) -> None:
    """Write captions for each image, and draw the sheets that are wanted."""
    from captioning.models.sources import read

    images, there = [], []
    for path in paths:
        try:
            image = read(content(path))
            there.append([] if objects is None else objects.of(path, image.image.size))
            images.append((path, image))
        except (UserError, OSError) as fault:
            notices.skip(path, fault)
    opened = [image for _, image in images]
    results = model.batch(opened, options) if objects is None else model.batch_of_objects(opened, there, options)
    for (path, source), captioned in zip(images, results, strict=True):
        best, sheet = captioned.captions[0], sheets.get(path)
        if captioned.unlike:
            notices.differs(path)
        if abstain is not None and best.confidence is not None and best.confidence < abstain:
            notices.abstain(path, best.confidence)
            continue
        if sheet:
            _draw(model, source, best, sheet)
        try:
            outputs.add(path, captioned.captions, sheet, several=options.n_best > 1)
        except UnwritableError as fault:
            notices.skip(path, fault)


def _draw(model: "Model", source: "Read", caption: "Caption", sheet: Path) -> None:
    """Draw where the model looked, as a PNG."""
    stream = io.BytesIO()
    model.sheet(source.image, caption).save(stream, "PNG")
    with written("--attention", sheet):
        write_bytes(sheet, stream.getvalue())
