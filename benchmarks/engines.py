"""What runs a model: torch, ONNX Runtime and OpenVINO beside each other, one photograph at a time on one core.

    python -m benchmarks.engines [COUNT] [MODEL]      # by default 200 images: photographs of docs/, and scenes

warm: processor milliseconds from an image in memory to its caption, the median, in one process. cold: processor seconds
of `captioning predict photo.jpg`, the median of three, once the model is exported. Processor time is what a core that
does nothing else would take: other programs on this machine change it little. equal: captions that are those of torch.
nats: the largest difference of the log probability of a caption.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

from PIL import Image

from captioning.data.datasets.scenes import composition, drawing
from captioning.data.runtimes.registry import Engine
from captioning.models import choice, loading
from captioning.models.python import Caption, Model
from captioning.system import compute

SEED = 987_654_321
PHOTOGRAPHS = sorted(Path(__file__).resolve().parents[1].glob("docs/photographs/*.jpg"))


def _images(count: int) -> list[Image.Image]:
    """The photographs, and so many scenes that there are `count` of both."""
    photographs = [Image.open(path).convert("RGB") for path in PHOTOGRAPHS[:count]]
    scenes = composition.compose(max(count - len(photographs), 1), SEED)
    return (photographs + [drawing.draw(scene, 192) for scene in scenes])[:count]


def _warm(model: Model, images: Sequence[Image.Image]) -> tuple[list[Caption], float]:
    """Their captions, and the median of the milliseconds of each."""
    captions, spent = [], []
    model(images[0])
    for image in images:
        begun = time.process_time()
        captions.append(model(image))
        spent.append(1000 * (time.process_time() - begun))
    return captions, statistics.median(spent)


def _cold(engine: Engine, model: str) -> float:
    """Processor seconds of a command that captions one photograph."""
    code = "from captioning.cli import main; main()"
    command = [sys.executable, "-c", code, "predict", str(PHOTOGRAPHS[0]), "--model", model, "--engine", engine]
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, "--threads", "1"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return statistics.median(spent)


def main(count: str = "200", model: str = "photographs") -> None:
    """Print the table."""
    compute.pin(portable=False, threads=1)
    images, found = _images(int(count)), choice.models([model], None)
    expected: list[Caption] = []
    print(f"| engine | warm | cold | equal, of {len(images)} | nats |\n|---|---|---|---|---|", flush=True)
    for engine in Engine:
        captions, warm = _warm(loading.pinned(found, threads=1, engine=engine), images)
        expected = expected or captions
        pairs = list(zip(captions, expected, strict=True))
        equal = sum(one.text == other.text for one, other in pairs)
        nats = max(abs(one.log_probability - other.log_probability) for one, other in pairs if one.text == other.text)
        print(f"| {engine} | {warm:.0f} ms | {_cold(engine, model):.1f} s | {equal} | {nats:.1e} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
