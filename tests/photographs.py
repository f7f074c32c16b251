"""Miniature data sets of photographs in the published layouts, and a run of `prepare` on them."""

import io
import json
import os
import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from captioning.data.datasets import registry
from captioning.data.datasets.base import Options, Prepared
from captioning.system.archives import write_zip
from captioning.system.errors import UserError

SCENES = SimpleNamespace(train=2, val=1, test=1, image_size=32, seed=1)
REAL = Path(os.environ.get("CAPTIONING_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


def jpeg(seed: int) -> bytes:
    """An image of noise, 64 pixels a side."""
    noise = Image.frombytes("RGB", (64, 64), random.Random(seed).randbytes(64 * 64 * 3))
    stream = io.BytesIO()
    noise.save(stream, "JPEG")
    return stream.getvalue()


def edited(document: Any, path: str, value: Any) -> bytes:
    """JSON of a document with the value at `path` (`images.1.id`) replaced, or removed where it is None."""
    changed = place = json.loads(json.dumps(document))
    *keys, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
    for key in keys:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return json.dumps(changed).encode()


class Try:
    """Prepares a data set from a folder that holds these files; a mapping is written as a zip file of its members."""

    def __init__(self, folder: Path, dataset: str, split: str = "official") -> None:
        self.source, self.out, self.cache = folder / "source", folder / "out", folder / "cache"
        self.source.mkdir()
        self.dataset, self.split = dataset, split

    def put(self, files: Mapping[str, Mapping[str, bytes] | bytes]) -> None:
        """Write files into the source folder."""
        for name, content in files.items():
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                write_zip(path, content.items())

    def __call__(self, files: Mapping[str, Mapping[str, bytes] | bytes], *, skip_corrupt: bool = False) -> Prepared:
        self.put(files)
        return self.run(skip_corrupt=skip_corrupt)

    def run(self, *, skip_corrupt: bool = False) -> Prepared:
        """Prepare what is in the source folder."""
        options = Options(self.source, skip_corrupt, SCENES, self.split)
        return registry.get(self.dataset).prepare(self.out, options, self.cache)

    def refused(self, said: str) -> AbstractContextManager[object]:
        """The block raises a UserError of one line that matches."""
        return pytest.raises(UserError, match=rf"\A(?=[^\n]*\Z).*(?:{said})")
