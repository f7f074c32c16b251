"""Which objects an experiment's model read of an image: their names, for the image's card."""

from collections import Counter

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from captioning.experiments import recorded
from captioning.experiments.compare import PER_IMAGE, Experiment
from captioning.experiments.outside import CaptionFile

FOLDER = "data/objects"
LABELS = f"{FOLDER}/label.tsv"
_Object = TypedDict("_Object", {"class": str})
_ROW = TypeAdapter(list[_Object])


def named(experiment: Experiment) -> dict[int, str]:
    """The names by COCO id, surest first, as `dog, 2 × ball`; none where the experiment's model reads no objects."""
    revision = experiment.revision
    if isinstance(revision, CaptionFile) or LABELS not in revision.names(FOLDER):
        return {}
    lines = revision.read(LABELS).decode(errors="replace").split("\n")
    listed = {key: row for key, _, row in (line.partition("\t") for line in lines)}
    rows = recorded.rows(revision, PER_IMAGE, ",", "image_id", "coco_id")
    ids = recorded.ids(revision, PER_IMAGE, rows, "coco_id")
    missing = [row["image_id"] for row in rows if row["image_id"] not in listed]
    if missing:
        raise recorded.damaged(revision, LABELS, f"it has no row of {missing[0]}")
    return {
        image: _counted([one["class"] for one in recorded.parse(revision, LABELS, listed[key].encode(), _ROW)])
        for image, key in zip(ids, (row["image_id"] for row in rows), strict=True)
    }


def _counted(names: list[str]) -> str:
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in Counter(names).items()) or "none"
