"""`captioning predict` on a folder of many made photographs: images/s, and whether memory grows with their number.

    python -m benchmarks.many_images [COUNT] [MODEL]      # by default 5,000, and the shipped model

MODEL: a model folder, a shipped model's name, or `small`, an untrained one of squeezenet1_1 at 64 pixels: nearly all
time is then that of reading, decoding and writing, so that large counts are soon done. The images are hard links to
a few hundred JPEG files of noise that is smooth, so their captions mean nothing.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

DISTINCT, SIDES = 300, (640, 480)  # files, pixels
FOLDERS = 100
SMALL = "small"
SHARES = (0.0, 0.1, 0.5, 1.0)  # of the images, at which memory is printed


class Moment(NamedTuple):
    """Seconds since the start, captions that are written, resident MiB."""

    seconds: float
    captions: int
    mebibytes: float


def photographs(folder: Path, count: int) -> None:
    """`count` images in `folder`, in subfolders, of which a few hundred are distinct."""
    draw = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % FOLDERS:02d}" / f"{number:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number < DISTINCT:
            coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            coarse.resize(SIDES, Image.Resampling.BICUBIC).save(path, quality=90)
        else:
            first = number % DISTINCT
            path.hardlink_to(folder / f"{first % FOLDERS:02d}" / f"{first:06d}.jpg")


def small(folder: Path) -> None:
    """An untrained model that is quick."""
    from benchmarks.vocabulary import numbered
    from captioning import decoders
    from captioning.captioner import model
    from captioning.captioner.cards import Card
    from captioning.vision.encoders import backbones, encoders

    name, vocabulary = "squeezenet1_1", numbered(100)
    options: dict[str, Any] = {"embedding_size": 16, "hidden_size": 16, "layers": 1, "dropout": 0.0}
    transform = backbones.transform_for(name, 64, pretrained=False)
    encoder = encoders.build(name, transform=transform, weights={})
    decoder = decoders.build("lstm", vocabulary, encoder.dim, options)
    card = Card(name, "lstm", options, asdict(transform), {}, {"portable": True, "threads": 1}, {}, {})
    model.save(folder, card, encoder.body.state_dict(), decoder.state_dict(), vocabulary)


def watched(command: list[str], out: Path) -> list[Moment]:
    """Run a command to its end, and look at its memory and at the lines of `out` four times a second."""
    moments, begun = [], time.monotonic()
    with out.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
        lines = Lines(out)
        while process.poll() is None:
            moments.append(Moment(time.monotonic() - begun, lines.count(), memory(process.pid)))
            time.sleep(0.25)
    if process.returncode:
        raise SystemExit(out.with_suffix(".log").read_text())
    moments.append(Moment(time.monotonic() - begun, lines.count(), moments[-1].mebibytes))
    return moments


class Lines:
    """Counts the lines of a file that grows, and reads each byte once."""

    def __init__(self, path: Path) -> None:
        self._path, self._lines, self._read = path, 0, 0

    def count(self) -> int:
        """Lines so far."""
        if self._path.exists():
            with self._path.open("rb") as stream:
                stream.seek(self._read)
                content = stream.read()
            self._read += len(content)
            self._lines += content.count(b"\n")
        return self._lines


def memory(process: int) -> float:
    """The resident MiB of a process; 0 where it has ended."""
    found = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[0]) / 1024 if found else 0.0


def main(count: str = "5000", model: str = "photographs") -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "images").mkdir()
        photographs(folder / "images", int(count))
        if model == SMALL:
            small(folder / SMALL)
            model = str(folder / SMALL)
        out = folder / "captions.txt"
        program = [sys.executable, "-c", "from captioning.cli import main; main()", "predict"]
        moments = watched([*program, str(folder / "images"), "--model", model, "--out", str(out)], out)
        print_table(moments, int(count))


def print_table(moments: list[Moment], count: int) -> None:
    """Print time and memory at each share of the captions."""
    first = next(moment for moment in moments if moment.captions)
    last = moments[-1]
    rate = (last.captions - first.captions) / (last.seconds - first.seconds)
    print(f"{last.captions:,} of {count:,} images, {os.cpu_count()} cores: {rate:.1f} images/s")
    print(f"first captions after {first.seconds:.1f} s")
    print("| captions | seconds | MiB |\n|---|---|---|")
    for share in SHARES:
        moment = next(one for one in moments if one.captions >= max(1, share * count))
        print(f"| {moment.captions:,} | {moment.seconds:.0f} | {moment.mebibytes:,.0f} |")
    print(f"most memory: {max(moment.mebibytes for moment in moments):,.0f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
