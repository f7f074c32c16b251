"""Peak memory of training on stored features, at N images and at 4 N: it must not grow with them.

python -m benchmarks.memory
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from captioning.system import compute

compute.pin(portable=True, threads=2)

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.vocabulary import numbered  # noqa: E402
from captioning.data.text.encoded_captions import EncodedCaptions  # noqa: E402
from captioning.decoders.lstm import LstmDecoder, LstmOptions  # noqa: E402
from captioning.training import optimization  # noqa: E402
from captioning.training.batches import collate  # noqa: E402
from captioning.training.inputs import FeatureInputs  # noqa: E402
from captioning.training.network import Network  # noqa: E402
from captioning.training.tracking.live import peak_memory  # noqa: E402
from captioning.vision.features.store import Sharded  # noqa: E402

IMAGES, SHARD, CAPTIONS, WORDS, DIM, STEPS = 6000, 1000, 5, 11, 1280, 40


class Store:
    """Means in files that are as large as they are, read by memory map as the feature store does."""

    regions = None

    def __init__(self, paths: list[Path]) -> None:
        self.means = Sharded([np.load(path, mmap_mode="r") for path in paths], SHARD)


def train(images: int) -> float:
    """Peak MiB of `STEPS` steps whose batches come from all of the data."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"means-{start}.npy" for start in range(0, images, SHARD)]
        for path in paths:
            np.save(path, generator.random((SHARD, DIM), dtype=np.float32).astype(np.float16))
        count = images * CAPTIONS
        captions = EncodedCaptions(
            generator.integers(4, 2549, count * (WORDS + 2), dtype=np.int32),
            np.arange(0, count * (WORDS + 2) + 1, WORDS + 2),
            np.repeat(np.arange(images, dtype=np.int32), CAPTIONS),
        )
        vocabulary = numbered(2549)
        network = Network(None, LstmDecoder(vocabulary, DIM, LstmOptions(256, 512, 1, 0.3)))
        inputs, device = FeatureInputs(Store(paths), by_image=False), torch.device("cpu")  # type: ignore[arg-type]
        optimizer = optimization.adamw([(network, 1e-3)], 0.01)
        for numbers in inputs.plan(captions, 128, (0, 0))[:STEPS]:
            batch = collate(captions, numbers, vocabulary.special)
            loss = network(inputs.read(batch.rows, device), batch.tokens, batch.owner)["caption"].value
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return peak_memory()


def main() -> None:
    """Print a table; each size runs in a process of its own."""
    print("| images | peak MiB |\n|---|---|")
    for images in (IMAGES, 4 * IMAGES):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", str(images)], capture_output=True, text=True, check=True
        )
        print(f"| {images:,} | {float(done.stdout):,.0f} |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(train(int(sys.argv[1])))
    else:
        main()
