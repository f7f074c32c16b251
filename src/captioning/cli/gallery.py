"""The command `captioning gallery`: test images with what the model says, a reference, and what is true."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from captioning.cli.places import check_file, in_project, written

if TYPE_CHECKING:
    from captioning.evaluation.captioned import Shown
    from captioning.experiments.recorded import Row
    from captioning.experiments.revisions import Revision

IMAGES = Path("data/download")


@in_project
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

    check_file("--out", out)
    shown = sample(images, seed)
    stream = io.BytesIO()
    hero(shown, columns).save(stream, "PNG", optimize=True)
    with written("--out", out):
        write_bytes(out, stream.getvalue())
    print(f"{out}: {len(shown)} images")


def sample(count: int, seed: int) -> "list[Shown]":
    """At most `count` test images drawn at random, in the order of the data.

    Raises UserError when the workspace has no evaluation, not its images, or an evaluation of other settings.
    """
    from captioning.evaluation.captioned import Shown
    from captioning.experiments import coherence, compare
    from captioning.experiments.report.gallery import shuffled
    from captioning.experiments.revisions import WORKSPACE, resolve
    from captioning.system.archives import ImageArchives

    [workspace] = resolve([WORKSPACE])
    coherence.check(workspace, (compare.PER_IMAGE, compare.REFERENCES))
    files, references = compare.test_set(workspace)
    rows = compare.per_image(workspace, files, "file", "hypothesis")
    with ImageArchives(IMAGES) as images:
        return [
            Shown.read(
                images,
                rows[image]["file"],
                rows[image]["hypothesis"],
                references[image][0],
                _true(workspace, rows[image]),
            )
            for image in sorted(shuffled(sorted(rows), seed)[:count])
        ]


def _true(workspace: "Revision", row: "Row") -> bool | None:
    """What `evaluate` found of a caption: 1 or 0 in the column `true`; None where it has no such column."""
    from captioning.experiments import compare, recorded

    if not row.get("true"):
        return None
    return bool(recorded.numbers(workspace, compare.PER_IMAGE, [row], "true")[0])
