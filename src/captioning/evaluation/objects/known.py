"""What a data set says is in its images, and what captions of them are worth by it."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from captioning.data.objects import tables, truth
from captioning.data.objects.instances import Truth
from captioning.data.objects.labels import Found
from captioning.data.objects.placing import seen
from captioning.evaluation.objects import hallucination, names
from captioning.evaluation.objects.grounding import Grounding
from captioning.evaluation.objects.hallucination import Hallucination
from captioning.evaluation.objects.names import Names
from captioning.vision.images import Transform

_EXACT = ("scenes",)  # data sets that say all that is in their images; others leave objects out


class Known(NamedTuple):
    """Of images, by COCO id: the objects, and the size in whose pixels their boxes are; and how captions name them.

    exact: nothing else is in the images.
    """

    names: Names
    objects: Mapping[int, Truth]
    sizes: Mapping[int, tuple[int, int]]
    exact: bool

    def boxed(self, image: int, transform: Transform) -> list[Found]:
        """The objects of an image that a transform leaves of it: boxes as shares of what it takes."""
        return [placed for one in self.objects[image].objects for placed in seen([one], self.sizes[image], transform)]

    def present(self, image: int, captions: Sequence[str]) -> AbstractSet[str]:
        """The kinds that are in an image; where more may be, those that people's captions name too, as in CHAIR."""
        kinds = {one.name for part in self.objects[image] for one in part}
        return kinds if self.exact else kinds | hallucination.named(captions, self.names)


def read(dataset: str, data: Path, objects: Path, images: pd.DataFrame) -> Known | None:
    """What the data set in the folder `data` says of these images; objects: the folder of the stage `objects`.

    None with `objects: none`, and where the data set says nothing, or not how captions name it.
    """
    if tables.read_card(objects)["kind"] == tables.NONE:
        return None
    called, source = names.of(dataset), truth.of(dataset, data)
    if called is None or source is None:
        return None
    ids = dict(zip(images["image_id"], images["coco_id"].tolist(), strict=True))
    table = tables.Objects(objects).sizes
    sizes = {name: table[name] for name in ids}
    found = {ids[name]: one for name, one in source.read(sizes).items()}
    return Known(called, found, {ids[name]: size for name, size in sizes.items()}, dataset in _EXACT)


def hallucinations(
    known: Known, captions: Mapping[int, str], references: Mapping[int, Sequence[str]], constant: str
) -> dict[str, Hallucination]:
    """Of `floor` (the constant caption), `model` and `human`: each reference by the image and its other references."""
    present = {image: known.present(image, references[image]) for image in captions}
    people = {(image, k): caption for image in captions for k, caption in enumerate(references[image])}
    others = {(image, k): [*references[image][:k], *references[image][k + 1 :]] for image, k in people}
    return {
        "floor": hallucination.score(dict.fromkeys(captions, constant), present, known.names),
        "model": hallucination.score(captions, present, known.names),
        "human": hallucination.score(
            people, {key: known.present(key[0], rest) for key, rest in others.items()}, known.names
        ),
    }


def table(rows: Mapping[str, Hallucination], grounding: Grounding | None) -> str:
    """Aligned text: CHAIR, a system a line, and how often the model looked at what it named."""
    shares = ("chair_i", "chair_s")
    width = max(map(len, rows))
    lines = [" ".join(["objects named".ljust(width), "CHAIRi", "CHAIRs", "names"])]
    for name, row in rows.items():
        record = row.record()
        cells = ["     –" if record[share] is None else f"{record[share]:6.3f}" for share in shares]
        lines.append(" ".join([name.ljust(width), *cells, f"{row.mentions:5}"]))
    if grounding is not None and grounding.nouns:
        record = grounding.record()
        lines.append(
            f"looked at the object at {record['share']:.3f} of {grounding.nouns} names of objects in the image; "
            f"at random: {record['random_region']:.3f}"
        )
    return "\n".join(lines)
