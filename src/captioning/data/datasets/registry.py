"""The data sets. To add one: a module here with `name` and `prepare`, and an entry below."""

import difflib
from pathlib import Path

from captioning.data.datasets import abstract_scenes, coco2014, coco2017, flickr8k, flickr30k, folder
from captioning.data.datasets.base import Dataset, Options, Prepared, check_table
from captioning.data.datasets.scenes import dataset as scenes
from captioning.system.errors import UserError


class _Scenes:
    """`scenes`, which is drawn and needs neither network nor cache."""

    name = scenes.name

    def prepare(self, folder: Path, options: Options, cache: Path) -> Prepared:  # noqa: ARG002
        drawn = options.scenes
        counts = {"train": drawn.train, "val": drawn.val, "test": drawn.test}
        table = scenes.write(folder, **counts, size=drawn.image_size, seed=drawn.seed)
        check_table(table)
        return Prepared(table, [], [])


_ALL: tuple[Dataset, ...] = (_Scenes(), abstract_scenes, flickr8k, flickr30k, coco2014, coco2017, folder)
DATASETS = {dataset.name: dataset for dataset in _ALL}


def get(name: str) -> Dataset:
    """The data set of that name. Raises UserError with the closest name when there is none."""
    if name not in DATASETS:
        closest = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {closest[0]}?" if closest else f"there are {', '.join(sorted(DATASETS))}"
        raise UserError(f"dataset = {name!r}: no such data set; {hint}")
    return DATASETS[name]
