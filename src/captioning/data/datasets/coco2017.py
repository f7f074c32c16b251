"""COCO 2017: the photographs and captions of COCO 2014, divided anew (Lin et al. 2014; Chen et al. 2015).

Annotations CC BY 4.0; photographs as Flickr has them.
"""

from functools import partial
from pathlib import Path

from captioning.data.datasets import annotations
from captioning.data.datasets.base import Options, Prepared
from captioning.data.datasets.published import Workspace, gather_split

name = "coco2017"
_URL = "http://images.cocodataset.org/"
_PUBLISHED = {
    _URL + "annotations/annotations_trainval2017.zip": "md5:f4bbac642086de4f52a3fdda2de5fa2c",
    _URL + "zips/val2017.zip": "md5:442b8da7639aecaf257c1dceb8ba8c80",
    _URL + "zips/train2017.zip": "md5:cced6f7f71b7629ddf16f17bbcfab6b2",
}
_COUNTS = {"train2017": (118_287, 591_753), "val2017": (5000, 25_014)}  # images, captions


def prepare(folder: Path, options: Options, cache: Path) -> Prepared:
    """Bring the archives into `folder` and return the caption table, as `Dataset` says."""
    splits = {"official": partial(annotations.assemble, year=2017, published=_PUBLISHED, expected=_COUNTS)}
    return gather_split(Workspace(name, options.source, cache), folder, options, splits)
