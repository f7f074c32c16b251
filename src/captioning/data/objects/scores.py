"""How good found objects are: COCO's average precision (Lin et al. 2014), by COCO's own code."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools.cocoeval import COCOeval

from captioning.data.objects.instances import Truth
from captioning.data.objects.labels import Found
from captioning.data.splits.coco import index


def average_precision(found: Mapping[str, Sequence[Found]], truth: Mapping[str, Truth]) -> dict[str, float]:
    """AP (over IoU .50 to .95) and AP50 of the images of `truth`, 0 to 1; classes are matched by name.

    At most 100 objects of an image count, as in COCO. A class of which no object is true counts in neither.
    """
    names = sorted({one.name for image in truth.values() for one in (*image.objects, *image.crowds)})
    categories = {name: number for number, name in enumerate(names, start=1)}
    images = {key: number for number, key in enumerate(truth, start=1)}
    results = [
        {**_record(one, images[key], categories), "score": one.score}
        for key in truth
        for one in found.get(key, ())
        if one.name in categories
    ]
    if not results:
        return {"ap": 0.0, "ap50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress with print
        scored = index(_document(truth, images, categories))
        evaluation = COCOeval(scored, scored.loadRes(results), "bbox")
        for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
            step()
    return {"ap": round(float(evaluation.stats[0]), 4), "ap50": round(float(evaluation.stats[1]), 4)}


def _document(truth: Mapping[str, Truth], images: Mapping[str, int], categories: Mapping[str, int]) -> dict[str, Any]:
    true = [(key, one, crowd) for key, image in truth.items() for crowd in (0, 1) for one in image[crowd]]
    return {
        "info": {},
        "images": [{"id": number} for number in images.values()],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": [
            {**_record(one, images[key], categories), "id": number, "iscrowd": crowd}
            for number, (key, one, crowd) in enumerate(true, start=1)
        ],
    }


def _record(one: Found, image: int, categories: Mapping[str, int]) -> dict[str, Any]:
    left, top, right, bottom = one.box
    width, height = right - left, bottom - top
    box = [left, top, width, height]
    return {"image_id": image, "category_id": categories[one.name], "bbox": box, "area": width * height}
