"""Images a second of the stage `features`, beside those of the bare network on pixels that are in memory.

The bare network runs as the stage runs it, a batch on each core, and with all cores on each batch in turn. A share of
100 % would mean that reading, decoding, resizing and writing cost nothing. Peak memory is taken at a number of images
and at four times as many: it must not grow with them.

With `engines`, `features.engine` is compared, in turns: torch, ONNX Runtime and OpenVINO, with all that the CPU has
(`compute.portable: false`). `bf16` and `int8` add what has bfloat16, and what has 8-bit integers. Beside them stands
the loop that people write first: torchvision's network and transform, an image at a time.

    python -m benchmarks.features [FOLDER]      # with Flickr8k_Dataset.zip; else CAPTIONING_SOURCE, else drawn noise
    python -m benchmarks.features engines [bf16] [int8] [ENCODER] [WEIGHTS] [FOLDER]      # WEIGHTS: drawn, if not named
"""

import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from captioning.system import compute

compute.pin(portable="engines" not in sys.argv, threads=2)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torchvision.models import get_model, list_models  # noqa: E402
from torchvision.transforms._presets import ImageClassification  # noqa: E402

from captioning.data.extraction import engines, extraction  # noqa: E402
from captioning.data.extraction.encoding import at_once, by_torch  # noqa: E402
from captioning.data.runtimes.registry import Engine  # noqa: E402
from captioning.system import state_dicts  # noqa: E402
from captioning.system.archives import Archive, ImageArchives, write_zip  # noqa: E402
from captioning.vision.encoders import backbones, encoders  # noqa: E402

NAME, BATCH, SHARD, COUNT, MEMORY_COUNT = "mobilenet_v2", 4, 256, 4096, 512
TURNS, THREADS, EXAMPLES = 4, 2, 128

Runs = Callable[[encoders.Encoder], list[engines.Run]]


def main() -> None:
    """Print a table of speeds and one of peak memory."""
    if len(sys.argv) == 4 and sys.argv[1] == "memory":
        print(_peak(Path(sys.argv[2]), int(sys.argv[3])))
        return
    if "engines" in sys.argv:
        _compare_engines(sys.argv[2:])
        return
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CAPTIONING_SOURCE")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _archive(root, Path(given) if given else None)
        _speed(root)
        peaks = [_measure_peak(root, count) for count in (MEMORY_COUNT, 4 * MEMORY_COUNT)]
    print(f"\n| images | peak memory, MiB |\n|---|---|\n| {MEMORY_COUNT} | {peaks[0]:.0f} |")
    print(f"| {4 * MEMORY_COUNT} | {peaks[1]:.0f} |")


def _archive(root: Path, given: Path | None) -> None:
    """Leave an archive of photographs, or of noise, as `root`/images.zip."""
    if given:
        found = sorted(given.rglob("Flickr8k_Dataset.zip"))
        (root / "images.zip").symlink_to(found[0].resolve())
        return
    generator = np.random.default_rng(0)

    def drawn() -> bytes:
        stream = io.BytesIO()
        small = Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        small.resize((500, 375)).save(stream, "JPEG", quality=90)
        return stream.getvalue()

    write_zip(root / "images.zip", ((f"{i}.jpg", drawn()) for i in range(COUNT)))


def _images(root: Path, count: int) -> pd.DataFrame:
    """`count` rows; the images come round again when there are fewer."""
    with Archive(root / "images.zip") as archive:
        names = [name for name in archive.names() if name.endswith(".jpg")]
    files = [f"images.zip/{names[i % len(names)]}" for i in range(count)]
    return pd.DataFrame({"image_id": [str(i) for i in range(count)], "file": files})


def _encoder(name: str = NAME, weights: Path | None = None) -> encoders.Encoder:
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    transform = backbones.transform_for(name, "native", pretrained=True)
    state = {} if weights is None else state_dicts.read(weights)
    return encoders.freeze(encoders.build(name, transform=transform, weights=state))


def _write(folder: Path, images: pd.DataFrame, extractor: extraction.Extractor) -> None:
    fabric = compute.start(seed=1, threads=2, device="cpu", precision="32-true")
    extraction.write(folder, images, extractor, SHARD, folder.with_suffix(".unfinished"), fabric)


def _speed(root: Path) -> None:
    """Bare network and stage take turns, so that both see the same machine."""
    encoder, images = _encoder(), _images(root, COUNT // TURNS)
    bare = torch.inference_mode()(encoders.folded(encoder))
    size = encoder.transform.image_size
    batches = [torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)] * (len(images) // BATCH)
    one, each, stage = "bare network, two cores on a batch", "bare network, a batch on each core", "`features`"
    with (
        ImageArchives(root) as image_files,
        ThreadPoolExecutor(THREADS, initializer=partial(torch.set_num_threads, 1)) as pool,
    ):
        extractor = extraction.features(image_files, encoder, ["means"], BATCH)
        ways: dict[str, Callable[[int], object]] = {
            one: lambda _: list(map(bare, batches)),
            each: lambda _: list(pool.map(bare, batches)),
            stage: lambda turn: _write(root / f"store{turn}", images, extractor),
        }
        seconds = dict.fromkeys(ways, 0.0)
        for turn in range(TURNS):
            for name, way in ways.items():
                torch.set_num_threads(THREADS)
                begin = time.perf_counter()
                way(turn)
                seconds[name] += time.perf_counter() - begin
    print(f"{NAME}, {size} pixels, batch {BATCH}, {COUNT} images\n\n| | images/s | share |\n|---|---|---|")
    for what, taken in seconds.items():
        print(f"| {what} | {COUNT / taken:.1f} | {seconds[each] / taken:.0%} |")


def _compare_engines(arguments: list[str]) -> None:
    """Print images a second from JPEG to the store, and of the bare forward pass on one thread, by each engine.

    Beside them, how far the mean features are from those of torch in float32, as a share of their length.
    """
    kinds = {kind for kind in ("bf16", "int8") if kind in arguments}
    rest = [Path(one) for one in arguments if one not in kinds]
    given = next(filter(Path.is_dir, rest), None) or os.environ.get("CAPTIONING_SOURCE")
    weights = next(filter(Path.is_file, rest), None)
    name = next((str(one) for one in rest if not one.exists()), NAME)
    encoder = _encoder(name, weights)
    with tempfile.TemporaryDirectory() as root:
        _archive(Path(root), Path(given) if given else None)
        images = _images(Path(root), COUNT // TURNS)
        whole: dict[str, float] = {}
        with ImageArchives(Path(root)) as files:
            pixels = extraction.read_pixels(files, images["file"].tolist()[:EXAMPLES], encoder.transform)
            ready = {way: runs(encoders.folded(encoder)) for way, runs in _ways(kinds, pixels).items()}
            for turn in range(TURNS + 1):
                for way, runs in ready.items():
                    extractor = extraction.features(files, encoder, ["means"], BATCH, runs=lambda _, them=runs: them)
                    begin = time.perf_counter()
                    _write(Path(root) / f"{way}{turn}", images, extractor)
                    taken = (time.perf_counter() - begin) if turn else 0.0  # the first turn warms up
                    whole[way] = whole.get(way, 0.0) + taken
            plain = _plain(files, images["file"].tolist(), name) if name in list_models() else None
    forward = {way: _bare(runs[0], torch.from_numpy(pixels)) for way, runs in ready.items()}
    expected = forward["torch"].means
    print(f"{name}, {encoder.transform.image_size} pixels, batch {BATCH}, {COUNT} images\n")
    print("| | JPEG to store, two cores, images/s | ratio | forward pass, one thread, images/s | ratio | differs by |")
    print("|---|---|---|---|---|---|")
    if plain:
        print(f"| a plain loop | {plain:.0f} | {plain * whole['torch'] / COUNT:.2f} | | | |")
    for way, (rate, means) in forward.items():
        ratio = whole["torch"] / whole[way], rate / forward["torch"].rate
        differs = (means - expected).norm() / expected.norm()
        print(f"| {way} | {COUNT / whole[way]:.0f} | {ratio[0]:.2f} | {rate:.0f} | {ratio[1]:.2f} | {differs:.4f} |")


@torch.no_grad()
def _plain(image_files: ImageArchives, files: list[str], name: str) -> float:
    """Images a second of torchvision's network, with random weights, an image at a time."""
    torch.set_num_threads(THREADS)
    network, transform = get_model(name).eval(), ImageClassification(crop_size=224)
    begin = time.perf_counter()
    for file in files:
        image = Image.open(io.BytesIO(image_files.read(file))).convert("RGB")
        network(transform(image).unsqueeze(0))
    return len(files) / (time.perf_counter() - begin)


def _ways(kinds: set[str], examples: np.ndarray) -> dict[str, Runs]:
    """How the encoder is run, by the name of the row. examples: what the ranges of integers are taken from."""
    others = [engine for engine in Engine if engine != Engine.torch]
    ways: dict[str, Runs] = {"torch": by_torch} | {str(engine): _by(engine) for engine in others}
    if "bf16" in kinds:
        autocast = partial(torch.autocast, "cpu", torch.bfloat16)
        ways["torch, bfloat16"] = partial(by_torch, autocast=autocast)
        ways["openvino, bfloat16"] = _by(Engine.openvino, bf16=True)
    if "int8" in kinds:
        ways |= {f"{engine}, int8": _by(engine, examples=examples) for engine in others}
    return ways


def _by(engine: Engine, *, bf16: bool = False, examples: np.ndarray | None = None) -> Runs:
    return lambda encoder: engines.runs(encoder, engine, BATCH, at_once(encoder), bf16=bf16, examples=examples)


class Forward(NamedTuple):
    """Images a processor second of the forward pass alone, on one thread, and their mean features (B, D)."""

    rate: float
    means: torch.Tensor


@torch.inference_mode()
def _bare(run: engines.Run, pixels: torch.Tensor) -> Forward:
    """The fastest batch counts."""
    torch.set_num_threads(1)
    seconds, means = [], []
    for batch in pixels.split(BATCH):
        begin = time.process_time()
        regions = run(batch)
        seconds.append(time.process_time() - begin)
        means.append(regions.float().mean(1))
    return Forward(BATCH / min(seconds), torch.cat(means))


def _measure_peak(root: Path, count: int) -> float:
    """Peak memory of a process of its own, MiB."""
    command = [sys.executable, "-m", "benchmarks.features", "memory", str(root), str(count)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _peak(root: Path, count: int) -> float:
    """Of pixels: they are stored by the same code as features, and are larger. No network hides them."""
    transform = backbones.transform_for(NAME, "native", pretrained=True)
    with ImageArchives(root) as image_files:
        _write(root / f"pixels-{count}", _images(root, count), extraction.pixels(image_files, transform, BATCH))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
