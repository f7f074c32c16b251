"""How often `captioning predict` calls an image unlike the training images: of new scenes, and of other images.

    python -m benchmarks.unlikeness MODEL [COUNT] [ARCHIVE.zip]

MODEL: a model folder. COUNT: scenes drawn with a seed that no data set here has, and images of the archive, spread
evenly over it. Prints a row for each kind: share called unlike, and quartiles of distance / threshold.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from captioning.system import compute

compute.pin(portable=True, threads=compute.cores())

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from captioning.captioner import model  # noqa: E402
from captioning.captioner.model import Captioner  # noqa: E402
from captioning.data.datasets.scenes import composition, drawing  # noqa: E402
from captioning.system.archives import Archive  # noqa: E402
from captioning.system.image_names import is_image  # noqa: E402
from captioning.vision.features.unlikeness import Detector, statistics  # noqa: E402
from captioning.vision.images import decode  # noqa: E402

SEED = 987_654_321


def _scenes(count: int) -> Iterator[Image.Image]:
    return (drawing.draw(scene, 192) for scene in composition.compose(count, SEED))


def _archived(path: Path, count: int) -> Iterator[Image.Image]:
    archive = Archive(path)
    names = list(filter(is_image, archive.names()))
    for place in np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int):
        yield decode(archive.read(names[place]), names[place])


def _noise(count: int) -> Iterator[Image.Image]:
    random = np.random.default_rng(0)
    for side in random.integers(4, 193, count):
        grain = Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8))
        yield grain.resize((192, 192), Image.Resampling.BICUBIC)


def _distances(member: Captioner, detector: Detector, images: Iterable[Image.Image]) -> np.ndarray:
    pixels = torch.from_numpy(np.stack([member.transform.pixels(image) for image in images]))
    return detector.distances(statistics(pixels))


def main(folder: str, count: str = "400", archive: str = "") -> None:
    """Print the table."""
    member = model.load(Path(folder))
    if member.statistics is None:
        sys.exit(f"error: {folder}: it keeps no statistics of training images; train it again with `dvc repro train`")
    begin = time.perf_counter()
    detector = Detector(member.statistics)
    print(f"set up in {time.perf_counter() - begin:.2f} s from {len(member.statistics.train)} training images")
    kinds = {"scenes": _scenes(int(count)), "noise": _noise(int(count))}
    kinds |= {Path(archive).name: _archived(Path(archive), int(count))} if archive else {}
    print("| images | count | called unlike | distance / threshold: 1 %, 25 %, 50 %, 75 %, 99 % |\n|---|---|---|---|")
    for name, images in kinds.items():
        ratios = _distances(member, detector, images) / detector.threshold
        quantiles = [f"{np.quantile(ratios, part):.2f}" for part in (0.01, 0.25, 0.5, 0.75, 0.99)]
        print(f"| {name} | {len(ratios)} | {(ratios > 1).mean():.3f} | {', '.join(quantiles)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
