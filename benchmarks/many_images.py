"""`captioning predict` on a folder of many made photographs: images/s, and whether memory grows with their number.

    python -m benchmarks.many_images [COUNT] [MODEL] [KILLED]      # by default 5,000, and the shipped model

MODEL: a model folder, a shipped model's name, or `small`, an untrained one of squeezenet1_1 at 64 pixels: nearly all
time is then that of reading, decoding and writing, so that large counts are soon done. The images are hard links to
a few hundred JPEG files of noise that is smooth, so their captions mean nothing. With KILLED, SIGKILL ends the command
after so many captions, and the same command goes on. It has one thread.
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
SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)  # of the images, at which rates and memory are printed


class Moment(NamedTuple):
    """Seconds since the start, by the clock and of the processor, captions that are written, resident MiB."""

    seconds: float
    processor: float
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


def watched(command: list[str], out: Path, most: int | None = None) -> list[Moment]:
    """Run a command to its end, or kill it when `out` has `most` lines; look at it four times a second."""
    moments, begun = [], time.monotonic()
    with out.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
        lines = Lines(out)
        while process.poll() is None:
            if resident := memory(process.pid):
                seconds = time.monotonic() - begun
                moments.append(Moment(seconds, processor(process.pid), lines.count(), resident))
            if most is not None and moments and moments[-1].captions >= most:
                process.kill()
                process.wait()
                return moments
            time.sleep(0.25)
    if process.returncode:
        raise SystemExit(out.with_suffix(".log").read_text())
    moments.append(moments[-1]._replace(seconds=time.monotonic() - begun, captions=lines.count()))
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


def processor(process: int) -> float:
    """Seconds that a process has computed, in its own code and in the system's."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(count: str = "5000", model: str = "photographs", killed: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "images").mkdir()
        photographs(folder / "images", int(count))
        if model == SMALL:
            small(folder / SMALL)
            model = str(folder / SMALL)
        out = folder / "captions.txt"
        program = [sys.executable, "-c", "from captioning.cli import main; main()", "predict"]
        command = [*program, str(folder / "images"), "--model", model, "--threads", "1", "--out", str(out)]
        for most in (None,) if killed is None else (int(killed), None):
            print_table(watched(command, out, most), int(count))
        print_differences(out, int(count))


def print_table(moments: list[Moment], count: int) -> None:
    """Print time and memory at each share of the captions that a process wrote, and rates from the row above on."""
    first = next(moment for moment in moments if moment.captions > moments[0].captions)
    last = moments[-1]
    rate = per_second(last.captions - first.captions, last.seconds - first.seconds)
    print(f"{last.captions:,} of {count:,} images, {os.cpu_count()} cores: {rate or 'too few for a rate of'} images/s")
    print(f"first captions after {first.seconds:.1f} s, {first.processor:.1f} of the processor")
    print("| captions | seconds | images/s | images per processor second | MiB |\n|---|---|---|---|---|")
    above = first
    for share in SHARES:
        wanted = first.captions + share * (last.captions - first.captions)
        moment = next(one for one in moments if one.captions >= wanted)
        rates = [
            per_second(moment.captions - above.captions, since)
            for since in (moment.seconds - above.seconds, moment.processor - above.processor)
        ]
        print(f"| {moment.captions:,} | {moment.seconds:.0f} | {' | '.join(rates)} | {moment.mebibytes:,.0f} |")
        above = moment
    print(f"most memory: {max(moment.mebibytes for moment in moments):,.0f} MiB", flush=True)


def per_second(captions: int, seconds: float) -> str:
    """A rate; empty where all was seen in one look."""
    return f"{captions / seconds:.1f}" if seconds > 0 else ""


def print_differences(out: Path, count: int) -> None:
    """Print how many images have not one caption, and how many have another one than the same image before."""
    captions = dict(line.split("\t") for line in out.read_text().splitlines())
    lines = out.read_bytes().count(b"\n")
    first = {int(Path(path).stem): caption for path, caption in captions.items() if int(Path(path).stem) < DISTINCT}
    others = sum(caption != first[int(Path(path).stem) % DISTINCT] for path, caption in captions.items())
    print(f"{count - len(captions)} without a caption, {lines - len(captions)} with two, {others} with another caption")


if __name__ == "__main__":
    main(*sys.argv[1:])
