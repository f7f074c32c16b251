"""Beam search: in batches against one image at a time, with each decoder, and against `generate` of transformers.

Each decoder is run by torch, pinned to AVX2, and by ONNX Runtime, which takes what the CPU has. GPT-2 of the library
transformers, with cross-attention to the same regions, has the sizes of the decoder transformer. Every decoder is
random, and says as many words as it may. One thread; the fastest of the rounds counts.
equal: captions, one image at a time and then in batches, that are those of torch in batches.

    python -m benchmarks.search
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from captioning.system import compute

compute.pin(portable=True, threads=1)

import torch  # noqa: E402

from benchmarks import gpt2  # noqa: E402
from benchmarks.batch import FEATURES, REGIONS, built  # noqa: E402
from benchmarks.batch import WORDS as VOCABULARY  # noqa: E402
from captioning.data.runtimes import registry  # noqa: E402
from captioning.data.runtimes.registry import Engine  # noqa: E402
from captioning.decoders.base import Decoder  # noqa: E402
from captioning.engines import graphs  # noqa: E402
from captioning.engines.exported import GraphDecoder  # noqa: E402
from captioning.search import SearchOptions, Speaker, search  # noqa: E402
from captioning.vision.encoders.encoded import Encoded  # noqa: E402

BATCH, SINGLE, BEAM, WORDS, ROUNDS = 64, 16, 5, 12, 3
OPTIONS = SearchOptions(beam_size=BEAM, max_words=WORDS, min_words=WORDS)
DECODERS = ("lstm", "attention", "updown", "transformer")

Captions = list[tuple[int, ...]]


def exported(decoder: Decoder, encoded: Encoded) -> GraphDecoder:
    """The decoder, run by ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        loaded = {}
        for name, graph in graphs.trace_decoder(decoder, encoded.rows(slice(0, 2))).items():
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(graph.data)
            loaded[name] = registry.load(Engine.onnxruntime, path, 1)
    return GraphDecoder(decoder.vocabulary, decoder.shared, loaded["init"], loaded["step"])


def searched(decoder: Speaker[Encoded], encoded: Encoded, size: int) -> Captions:
    """The captions of all images, `size` at a time."""
    images = range(0, len(encoded.mean), size)
    return [found.ids for i in images for found in search(decoder, encoded.rows(slice(i, i + size)), OPTIONS)]


def rates(images: int, together: Callable[[], object], alone: Callable[[], object]) -> tuple[float, float]:
    """Images per processor second of `images` together, and of SINGLE images alone, in turns."""
    seconds: list[tuple[float, float]] = []
    for _ in range(ROUNDS + 1):
        begin = time.process_time()
        together()
        between = time.process_time()
        alone()
        seconds.append((between - begin, time.process_time() - between))
    many, one = (min(column) for column in zip(*seconds[1:], strict=True))
    return images / many, SINGLE / one


def row(name: str, decoder: Speaker[Encoded], encoded: Encoded, expected: Captions) -> tuple[float, float]:
    """Print a row of the table, and return its two rates."""
    few = encoded.rows(slice(0, SINGLE))
    found = searched(decoder, few, 1) + searched(decoder, encoded, BATCH)
    equal = sum(one == other for one, other in zip(found, expected[:SINGLE] + expected, strict=True))
    many, one = rates(BATCH, lambda: searched(decoder, encoded, BATCH), lambda: searched(decoder, few, 1))
    print(f"| {name} | {many:.1f} | {one:.1f} | {many / one:.1f} | {equal} of {SINGLE + BATCH} |", flush=True)
    return many, one


def main() -> None:
    """Print images per processor second, and the ratios."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    regions = torch.randn(BATCH, REGIONS, FEATURES)
    encoded = Encoded(regions.mean(1), regions)
    arrays = Encoded(encoded.mean.numpy(), regions.numpy())  # type: ignore[arg-type]
    print(f"beam {BEAM}, {WORDS} words of {VOCABULARY}, {REGIONS} regions of {FEATURES}, one thread, images/s\n")
    print(f"| | batches of {BATCH} | one image at a time | ratio | equal |\n|---|---|---|---|---|")
    for name in DECODERS:
        decoder = built(name).eval()
        expected = searched(decoder, encoded, BATCH)
        ours = {"torch": row(name, decoder, encoded, expected)}
        ours["ONNX Runtime"] = row(f"{name}, ONNX Runtime", exported(decoder, encoded), arrays, expected)
    model = gpt2.built()
    seen = torch.randn(BATCH, REGIONS, model.config.n_embd)

    def generate(images: int, size: int) -> None:
        gpt2.generated(model, seen[:images], size, BEAM, WORDS)

    theirs = rates(BATCH, lambda: generate(BATCH, BATCH), lambda: generate(SINGLE, 1))
    print(
        f"| GPT-2 of transformers, `generate` | {theirs[0]:.1f} | {theirs[1]:.1f} | {theirs[0] / theirs[1]:.1f} | |\n"
    )
    for engine, (many, one) in ours.items():
        print(f"transformer by {engine} against GPT-2: {many / theirs[0]:.1f} in batches, {one / theirs[1]:.1f} alone")


if __name__ == "__main__":
    main()
