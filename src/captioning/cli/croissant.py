"""`captioning croissant`: metadata of the drawn scenes, for data set catalogues."""

from pathlib import Path
from typing import Annotated

import typer

from captioning.cli.places import check_file, in_project, written
from captioning.system.files import write_json

_Out = Annotated[Path, typer.Option(help="The file; it names the data by their paths from its folder.")]


@in_project
def croissant(*, out: _Out = Path("croissant.json")) -> None:
    """Write the metadata of the data set `scenes` as Croissant 1.0, from the files in data/download.

    Digests and counts are those of the files.
    """
    from captioning.models import croissant as scenes  # it loads pandas

    check_file("--out", out)
    described = scenes.metadata(Path("data/download"), out.absolute().parent)
    with written("--out", out):
        write_json(out, described)
    print(out)
