"""JPEGs decoded at a fraction of their size, as libjpeg can, against whole: milliseconds, and what the pixels lose.

    python -m benchmarks.drafts ARCHIVE.zip [SIDE ...]

Decodes COUNT images of the archive for an encoder of each side, in pixels, and resizes them as the stage `features`
does. libjpeg divides sides by 2, 4 or 8, and here neither may become shorter than the encoder's. One thread; processor
time, the least of the rounds.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from captioning.system.archives import Archive
from captioning.vision.images import Transform, decode

SIDES = (224, 260, 288, 320)  # of MobileNetV2, of EfficientNet-Lite2, and both enlarged
COUNT, ROUNDS = 200, 3


def rows(archive: Path, sides: Sequence[int]) -> list[str]:
    """Lines of the table, one for each side."""
    with Archive(archive, "name another") as files:
        names = [name for name in files.names() if name.lower().endswith((".jpg", ".jpeg"))]
        images = [files.read(name) for name in names[:COUNT]]
    if not images:
        sys.exit(f"error: {archive}: it has no JPEG")
    return [_row(images, side) for side in sides]


def _row(images: Sequence[bytes], side: int) -> str:
    transform = Transform(side, None, "bilinear", mean=(0.0,) * 3, std=(1.0,) * 3)
    whole, reduced = (_seconds(images, transform, least) for least in (None, side))
    smaller = [data for data in images if decode(data, "", side).size != decode(data, "").size]
    lost = [np.abs(_pixels(data, transform, side) - _pixels(data, transform, None)).mean() for data in smaller]
    different = f"{np.mean(lost):.2f}" if lost else ""
    times = [f"{1000 * seconds / len(images):.2f}" for seconds in (whole, reduced)]
    return f"| {side} | {' | '.join(times)} | {whole / reduced:.2f} | {len(smaller) / len(images):.2f} | {different} |"


def _pixels(data: bytes, transform: Transform, least: int | None) -> np.ndarray:
    """(3, S, S), as numbers that may be subtracted."""
    return transform.pixels(decode(data, "", least)).astype(np.int16)


def _seconds(images: Sequence[bytes], transform: Transform, least: int | None) -> float:
    taken = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        for data in images:
            transform.pixels(decode(data, "", least))
        taken.append(time.process_time() - begin)
    return min(taken)


def main(archive: str, *sides: str) -> None:
    """Print a row for each side."""
    print("| side | whole, ms | reduced, ms | ratio | share that comes smaller | their pixels differ by, of 255 |")
    print("|---|---|---|---|---|---|")
    print("\n".join(rows(Path(archive), [int(side) for side in sides] or SIDES)))


if __name__ == "__main__":
    main(*sys.argv[1:])
