"""The command `captioning predict`: captions for one's own images."""

import errno
import glob
import hashlib
import json
import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from captioning.captioner import cards
from captioning.cli.notices import Notices, name_some, print_lines
from captioning.cli.places import written
from captioning.cli.search_options import BEAM_SIZE, with_search_options
from captioning.experiments import released
from captioning.settings.rules import usual_beam
from captioning.system import compute
from captioning.system.errors import UserError, escaped, json_escaped
from captioning.system.files import write_bytes
from captioning.system.image_names import SUFFIXES, is_image, is_litter

if TYPE_CHECKING:
    from captioning.captioner.ensembles import Captioners
    from captioning.search import Caption, SearchOptions

MODEL = Path("data/train/model")


class Format(StrEnum):
    """How captions are printed."""

    text = "text"
    jsonl = "jsonl"


_Paths = Annotated[list[str], typer.Argument(help="Images, folders of images, or patterns such as 'trip/*.jpg'.")]
_Models = Annotated[
    list[str] | None,
    Option(
        help="A model folder, or a commit, tag or experiment that has one; several: the mean of their probabilities.",
        show_default=str(MODEL),
    ),
]
_Repo = Annotated[str | None, Option(help="Address or path of the repository that --model names a revision of.")]
_Format = Annotated[Format, Option("--format", help="text: path, tab, caption; jsonl: an object a line.")]
_Mirror = Annotated[bool, Option("--mirror", help="Read the mirrored image too, and average the probabilities.")]
_Must = Annotated[list[str] | None, Option(help="beam: a word or phrase that captions must contain; may be repeated.")]
_BatchSize = Annotated[int, Option(min=1, help="Images captioned together.")]
_Attention = Annotated[
    Path | None, Option(help="A folder for attention maps: where the model looked, word by word, a PNG an image.")
]


@with_search_options
def predict(
    paths: _Paths,
    model: _Models = None,
    repo: _Repo = None,
    output: _Format = Format.text,
    mirror: _Mirror = False,
    must: _Must = None,
    batch_size: _BatchSize = 16,
    attention: _Attention = None,
    **search: Any,
) -> None:
    """Caption images with a trained model, or with several as one.

    A file that cannot be read is reported and the rest go on; the exit status is then 1. Captions are printed on
    standard output, and on standard error which model is used, and which images are unlike its training images.
    """
    notices = Notices()
    named, failed = _expand(paths)
    files = [path for path in named if _is_there(path, notices)]
    if files:
        models = released.models(model, repo, MODEL)
        captioners = _load(models, mirror=mirror)
        options = _options(captioners, search, must or [])
        sheets = _sheets(captioners, attention, files) if attention else {}
        notices.begin([found.title for found in models], captioners.members)
        for start in range(0, len(files), batch_size):
            _caption(captioners, files[start : start + batch_size], options, output, sheets, notices)
    notices.end(len(named))
    raise typer.Exit(1 if failed or notices.skipped else 0)


def _load(models: Sequence[released.Model], *, mirror: bool) -> "Captioners":
    """Load models, with the arithmetic that the first one asks for."""
    record = cards.read(models[0].folder)
    compute.pin(portable=record.portable, threads=record.threads)
    from captioning.captioner import ensembles

    return ensembles.load([model.folder for model in models], mirror=mirror)


def _options(captioners: "Captioners", search: dict[str, Any], must: list[str]) -> "SearchOptions":
    """How to search, as it was asked for. A beam size that was left out is as for `evaluate`."""
    from captioning.search import SearchOptions, phrases

    groups = search["groups"] if search["method"] == "diverse" else 1
    usual = usual_beam(captioners.members[0].card.settings["dataset"], search["n_best"], groups)
    beam_size = search[BEAM_SIZE] or usual
    return SearchOptions(**search | {BEAM_SIZE: beam_size, "must": phrases(captioners.vocabulary, must)})


def _sheets(captioners: "Captioners", folder: Path, files: list[Path]) -> dict[Path, Path]:
    """Make the folder, and say where in it each image's attention is drawn. Raises UserError when it cannot be."""
    from captioning.evaluation.attention_maps import file_names, refusal

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
    """Folders become their images and patterns their matches, sorted; and whether one of them had none."""
    files: list[Path] = []
    failed = False
    for path in paths:
        found = [Path(path)]
        if Path(path).is_dir():
            found = _images(Path(path))
        elif glob.has_magic(path) and not Path(path).exists():
            found = [Path(match) for match in sorted(glob.glob(path, recursive=True))]  # noqa: PTH207 - absolute too
        if not found:
            print_lines([f"error: {path}: no images there ({' '.join(sorted(SUFFIXES))})"])
        files += found
        failed |= not found
    return files, failed


def _images(folder: Path) -> list[Path]:
    """The images in a folder, at any depth, sorted; other files are counted on standard error."""
    paths = sorted(path for path in folder.rglob("*") if not is_litter(_within(folder, path)) and path.is_file())
    found = [path for path in paths if is_image(_within(folder, path))]
    others = sorted({path.suffix.lower() or path.name for path in paths} - SUFFIXES)
    if others and found:
        count = len(paths) - len(found)
        print_lines([f"{folder}: {count} of {len(paths)} files are not read, as no images: {name_some(others)}"])
    return found


def _within(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _is_there(path: Path, notices: Notices) -> bool:
    """Whether a file can be opened, without opening it: it may be a pipe."""
    try:
        path.stat()
        if not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as fault:
        notices.skip(path, fault)
        return False
    return True


def _caption(
    captioners: "Captioners",
    paths: list[Path],
    options: "SearchOptions",
    output: Format,
    sheets: dict[Path, Path],
    notices: Notices,
) -> None:
    """Print captions for each image, and draw the sheets that are wanted."""
    import numpy as np
    import torch

    from captioning.vision.images import decode

    pixels, files, read = [], [], []
    for path in paths:
        try:
            data = path.read_bytes()
            pixels.append(captioners.pixels(decode(data, str(path))))
            files.append(data)
            read.append(path)
        except (UserError, OSError) as fault:
            notices.skip(path, fault)
    if read:
        batch = [torch.from_numpy(np.stack(member)) for member in zip(*pixels, strict=True)]
        encoded = captioners.encode(batch)
        keys = [int(hashlib.sha256(data).hexdigest()[:16], 16) for data in files]
        unlike = captioners.unlike(batch)
        for index, (path, captions) in enumerate(zip(read, captioners.decode(encoded, options, keys), strict=True)):
            if unlike[index]:
                notices.differs(path)
            if path in sheets:
                from captioning.evaluation.attention_maps import draw_pixels

                drawn = draw_pixels(captioners.members[0], files[index], pixels[index][0], captions[0].text)
                with written("--attention", sheets[path]):
                    write_bytes(sheets[path], drawn)
            print(_lines(path, captions, output, sheets.get(path), several=options.n_best > 1), flush=True)


def _lines(path: Path, captions: "Sequence[Caption]", output: Format, sheet: Path | None, *, several: bool) -> str:
    """What is printed for an image: its caption, or a list of them with their scores.

    What a terminal may obey in a file's name, and bytes of it that are not UTF-8, are written as escapes.
    """
    if output is Format.jsonl:
        listed: dict[str, Any] = {"captions": [caption.record() for caption in captions]} if several else {}
        drawn = {"attention": str(sheet)} if sheet else {}
        record = {"file": str(path), "caption": captions[0].text, **listed, **drawn}
        return json_escaped(json.dumps(record, ensure_ascii=False))
    numbers = [f"\t{caption.score:.4f}\t{caption.log_probability:.4f}" if several else "" for caption in captions]
    return "\n".join(
        f"{escaped(str(path))}\t{caption.text}{said}" for caption, said in zip(captions, numbers, strict=True)
    )
