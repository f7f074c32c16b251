"""`captioning score`: scores of captions that any program wrote."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captioning.cli.experiments import Format
from captioning.cli.image_files import content, exists
from captioning.system.errors import UserError, shown
from captioning.system.image_names import leads_outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from captioning.experiments.outside import ReferenceFile
    from captioning.experiments.scoring import Further
    from captioning.models.learned_scores import Opened

_References = Annotated[Path, typer.Argument(help="References: COCO's caption document, .json, .jsonl, .csv or .tsv.")]
_Captions = Annotated[
    list[Path], typer.Argument(help="Captions of the same images: COCO's results, .json, .jsonl, .csv or .tsv.")
]
_Format = Annotated[Format, typer.Option("--format", help="text, md (Markdown) or json.")]
_Bert = Annotated[
    Path | None, typer.Option("--bert-score", metavar="FOLDER", help="Also BERTScore, by the text model in FOLDER.")
]
_Clip = Annotated[
    Path | None, typer.Option("--clip-score", metavar="FOLDER", help="Also CLIPScore, by the CLIP in FOLDER.")
]
_Images = Annotated[
    Path, typer.Option(metavar="FOLDER", help="Where CLIPScore finds the images that the references name.")
]
_Seed = Annotated[int, typer.Option(min=0, help="Seeds the bootstrap.")]


def score(
    references: _References,
    captions: _Captions,
    output: _Format = Format.text,
    seed: _Seed = 0,
    bert: _Bert = None,
    clip: _Clip = None,
    images: _Images = Path("data/download"),
) -> None:
    """Score captions of any program: BLEU, ROUGE-L and CIDEr-D with intervals, and a signature.

    Several files are compared with the first one. The signature names all that a score depends on beside the captions.
    """
    from captioning.experiments import scoring, verdicts

    further = _further(bert, clip)
    scored = scoring.score(references, captions, further=further, images=_opening(images, clip), seed=seed)
    if output is Format.json:
        print(json.dumps(scoring.document(scored), indent=1, ensure_ascii=False))
        return
    draw = verdicts.table if output is Format.md else verdicts.aligned
    tables = [scoring.rows(scored), scoring.difference_rows(scored)]
    parts = [draw(table) for table in tables if table]
    print("\n\n".join([*parts, "\n".join(scoring.notes(scored))]))


def _further(bert: Path | None, clip: Path | None) -> "list[Further]":
    """The scores that are asked for beside the usual ones."""
    if bert is None and clip is None:
        return []
    from captioning.models.learned_scores import BertScore, ClipScore

    asked = ((BertScore, bert), (ClipScore, clip))
    return [kind(folder) for kind, folder in asked if folder is not None]


def _opening(folder: Path, clip: Path | None) -> "Callable[[ReferenceFile], Opened]":
    """What finds the images of references, in a folder or in archives there; nothing where no score needs them.

    It raises UserError where an image is missing, before any is opened.
    """

    def opened(references: "ReferenceFile") -> "Opened":
        if clip is None:
            return {}
        names = {image: references.names.get(image, image) for image in references.captions}
        strange = next((name for name in names.values() if leads_outside(name) or not exists(folder / name)), None)
        if strange is not None:
            raise UserError(f"--clip-score: {folder} has no image {shown(strange)}; name their folder with --images")
        return {image: partial(_open, folder / name) for image, name in names.items()}

    return opened


def _open(path: Path) -> "Image":
    from captioning.models.sources import read

    return read(content(path)).image
