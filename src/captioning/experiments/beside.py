"""Experiments and, beside them, captions of the same test images that other programs wrote."""

from collections.abc import Sequence
from pathlib import Path

from captioning.experiments import compare, outside
from captioning.experiments.compare import Experiment
from captioning.experiments.outside import CaptionFile
from captioning.experiments.revisions import resolve
from captioning.system.errors import UserError, reworded
from captioning.system.files import digest


def read(revisions: Sequence[str], files: Sequence[Path]) -> list[Experiment]:
    """What these revisions said of their test images, then what files say of those of the first revision.

    A file is called by its name without the suffix. Raises UserError as `compare.read` and `outside.read_captions` do,
    and where two have one name.
    """
    names = [*revisions, *(path.stem for path in files)]
    twice = [path for path in files if names.count(path.stem) > 1]
    if twice:
        raise UserError(f"--captions {twice[-1]}: {twice[-1].stem} is also what another is called; rename the file")
    experiments = [compare.read(revision) for revision in resolve(revisions)]
    return experiments + [read_file(path, experiments[0]) for path in files]


def read_file(path: Path, first: Experiment) -> Experiment:
    """Captions of the test images of an experiment, out of a file, and scored as its own are."""
    known = outside.ReferenceFile(
        {str(image): listed for image, listed in first.references.items()},
        {str(image): file for image, file in first.files.items()},
    )
    captions = {int(image): caption for image, caption in outside.read_captions(path, known).items()}
    with reworded(lambda text: f"{path}: {text}"):
        model = compare.model_of(first.references, captions, {})
    return Experiment(CaptionFile(path.stem, path, digest(path)), first.references, first.files, captions, model)
