"""`captioning review`: a page on which a person accepts, corrects or drops captions."""

import os
from importlib import resources
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import quote

import typer

from captioning.cli.places import check_file, written
from captioning.system.errors import UserError, shown
from captioning.system.files import write_text
from captioning.system.image_names import can_be

_Captions = Annotated[Path, typer.Argument(help="What `captioning predict --out` wrote: .csv, .tsv, .jsonl or .json.")]
_Out = Annotated[Path, typer.Option(help="The page that is written; it shows the images from their folders.")]


class Entry(NamedTuple):
    """An image of the page: its address, its name in the folder of all, its caption, its confidence in percent."""

    address: str
    name: str
    caption: str
    confidence: str


def review(captions: _Captions, out: _Out = Path("review.html")) -> None:
    """Write a page to accept, correct or drop captions. It saves `captions.csv`, which is a data set of one's own.

    Names in that table are relative to the folder that has all images: save it there.
    """
    from jinja2 import Environment

    check_file("--out", out)
    entries, folder = _entries(captions, out)
    template = (resources.files("captioning.cli") / "pages/review.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True).from_string(template).render(entries=entries)
    with written("--out", out):
        write_text(out, page)
    print(f"{out}: {len(entries)} captions; save its captions.csv in {folder}")


def _entries(captions: Path, out: Path) -> tuple[list[Entry], Path]:
    """The page's images, and the folder that has all of them. Raises UserError where one is not there."""
    from captioning.experiments.outside import read_rows

    rows = read_rows(captions)
    if not rows:
        raise UserError(f"{captions}: no caption in it; name what `captioning predict --out` wrote")
    paths = [Path(row.image).absolute() for row in rows]
    for row, path in zip(rows, paths, strict=True):
        if not (can_be(row.image) and path.is_file()):
            raise UserError(
                f"{captions}, {row.location}: {shown(row.image)}: no such file; start where `captioning predict` was"
            )
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    addresses = [quote(os.path.relpath(path, out.absolute().parent)) for path in paths]
    return [
        Entry(address, path.relative_to(folder).as_posix(), row.caption, _percent(row.confidence))
        for address, row, path in zip(addresses, rows, paths, strict=True)
    ], folder


def _percent(confidence: str) -> str:
    """A probability as the page of `captioning serve` has it, `20 %`; what is none as it stands."""
    try:
        return f"{float(confidence):.0%}".replace("%", " %")
    except ValueError:
        return confidence
