"""A user's own table of objects: `label.tsv`, or published ones a split, in the folder `download.source`."""

from pathlib import Path

from captioning.data.network.downloads import find
from captioning.data.objects.labels import Found, read_labels
from captioning.data.objects.tables import merged
from captioning.system.errors import UserError

NAMES = ("label.tsv", "train.label.tsv", "val.label.tsv", "test.label.tsv", "predictions.tsv")
VECTORS = ("feature.tsv", "features.tsv", "train.feature.tsv", "val.feature.tsv", "test.feature.tsv")
TRUE = ("scenes", "abstract_scenes", "coco2014", "coco2017")  # data sets that say what is in their images


def files(source: Path | None, dataset: str) -> list[Path]:
    """The tables in the folder `source`, or in its subfolder `dataset`; none where there is no such file."""
    return [path for name in NAMES if (path := find(source, dataset, name))]


def vectors(source: Path | None, dataset: str) -> list[Path]:
    """The files of vectors of objects beside these tables; none where there is no such file."""
    return [path for name in VECTORS if (path := find(source, dataset, name))]


def read(paths: list[Path]) -> dict[str, list[Found]]:
    """Key → objects. Raises UserError as `read_labels` does, and where a key is in two files."""
    return merged((path, read_labels(path)) for path in paths)


def says(dataset: str, split: str) -> bool:
    """Does a data set say what is in its images? split: the value of `download.split`."""
    return dataset in TRUE and not (dataset == "coco2014" and split == "karpathy")


def check_labels(source: Path | None, dataset: str, split: str) -> None:
    """Raise UserError where `objects: labels` finds neither a table nor a data set that says what is in its images."""
    if not says(dataset, split) and not files(source, dataset):
        raise missing(source, dataset)


def check_trained(dataset: str, split: str) -> None:
    """Raise UserError where a data set does not say what is in its images, so that no detector can be trained."""
    if not says(dataset, split):
        raise untrainable(dataset)


def untrainable(dataset: str) -> UserError:
    """The error for a data set that does not say what is in its training images."""
    able = f"{', '.join(TRUE)} (coco2014 with download.split = official)"
    return UserError(f"objects = trained: {dataset} says of no image what is in it; {able} do; write objects: labels")


def missing(source: Path | None, dataset: str) -> UserError:
    """The error for a data set without a table of objects."""
    place = "a folder that download.source names" if source is None else str(source)
    return UserError(f"objects = labels: {dataset} has no table of objects; put label.tsv into {place}")
