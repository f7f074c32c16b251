"""The command `captioning gallery`: test images with what the model says, a reference, and what is true."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captioning.system.errors import UserError

if TYPE_CHECKING:
    from captioning.evaluation.captioned import Shown

TABLE, REFERENCES = Path("data/evaluate/per_image.csv"), Path("data/split/references_test.json")
IMAGES = Path("data/download")


def gallery(
    out: Annotated[Path, typer.Option(help="The image that is written, a PNG.")] = Path("captions.png"),
    images: Annotated[int, typer.Option(min=1, help="Number of images, a random sample of the test images.")] = 12,
    columns: Annotated[int, typer.Option(min=1, max=4, help="Images in a row; with 3, legible on a phone.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Draws the sample; the same seed, the same images.")] = 0,
) -> None:
    """Draw test images with the model's caption, one reference, and a mark of whether all that it says is true.

    It shows what `evaluate` left in the workspace. Only a data set whose truth is known (scenes) has marks.
    """
    import io

    from captioning.evaluation.captioned import hero
    from captioning.system.files import write_bytes

    shown = sample(images, seed)
    stream = io.BytesIO()
    hero(shown, columns).save(stream, "PNG", optimize=True)
    write_bytes(out, stream.getvalue())
    print(f"{out}: {len(shown)} images")


def sample(count: int, seed: int) -> "list[Shown]":
    """At most `count` test images drawn at random, in the order of the data.

    Raises UserError when the workspace has no evaluation, or not its images.
    """
    from captioning.data.splits import coco
    from captioning.evaluation.captioned import Shown
    from captioning.experiments.report.gallery import shuffled
    from captioning.system.archives import ImageArchives
    from captioning.system.files import read_json
    from captioning.vision.images import decode

    for path in (TABLE, REFERENCES):
        if not path.is_file():
            raise UserError(f"{path} is missing; run the pipeline (`dvc repro`), or bring it back with `dvc checkout`")
    with TABLE.open(encoding="utf-8", newline="") as stream:
        rows = {int(row["coco_id"]): row for row in csv.DictReader(stream)}
    references = coco.index(read_json(REFERENCES)).imgToAnns
    with ImageArchives(IMAGES) as images:
        return [
            Shown(
                decode(images.read(rows[image]["file"]), rows[image]["file"]),
                rows[image]["hypothesis"],
                references[image][0]["caption"],
                _true(rows[image]),
            )
            for image in sorted(shuffled(sorted(rows), seed)[:count])
        ]


def _true(row: dict[str, Any]) -> bool | None:
    """What `evaluate` found of a caption: 1 or 0 in the column `true`; None where it has no such column."""
    said = row.get("true")
    return bool(float(said)) if said else None
