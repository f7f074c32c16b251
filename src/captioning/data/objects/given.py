"""A user's own table of objects: `label.tsv`, or published ones a split, in the folder `download.source`."""

from pathlib import Path

from captioning.data.network.downloads import find
from captioning.data.objects.labels import Found, read_labels
from captioning.data.objects.tables import merged
from captioning.system.errors import UserError

NAMES = ("label.tsv", "train.label.tsv", "val.label.tsv", "test.label.tsv", "predictions.tsv")
TRUE = ("scenes", "abstract_scenes", "coco2014", "coco2017")  # data sets that say what is in their images


def files(source: Path | None, dataset: str) -> list[Path]:
    """The tables in the folder `source`, or in its subfolder `dataset`; none where there is no such file."""
    return [path for name in NAMES if (path := find(source, dataset, name))]


def read(paths: list[Path]) -> dict[str, list[Found]]:
    """Key → objects. Raises UserError as `read_labels` does, and where a key is in two files."""
    return merged((path, read_labels(path)) for path in paths)


def check(source: Path | None, dataset: str) -> None:
    """Raise UserError where `objects: labels` finds neither a table nor a data set that says what is in its images."""
    if dataset not in TRUE and not files(source, dataset):
        raise missing(source, dataset)


def missing(source: Path | None, dataset: str) -> UserError:
    """The error for a data set without a table of objects."""
    place = "a folder that download.source names" if source is None else str(source)
    return UserError(f"objects = labels: {dataset} has no table of objects; put label.tsv into {place}")
