"""Beam search: in batches against one image at a time, and over each decoder that attends to regions.

python -m benchmarks.search
"""

import time

from captioning.system import compute

compute.pin(portable=True, threads=2)

import torch  # noqa: E402

from benchmarks.vocabulary import numbered  # noqa: E402
from captioning import decoders  # noqa: E402
from captioning.decoders.base import Decoder  # noqa: E402
from captioning.decoders.lstm import LstmDecoder, LstmOptions  # noqa: E402
from captioning.search import SearchOptions, search  # noqa: E402
from captioning.settings import resolve  # noqa: E402
from captioning.vision.encoders.encoded import Encoded  # noqa: E402

IMAGES, BATCH, BEAM, WORDS, VOCABULARY, DIM, REGIONS = 512, 128, 3, 20, 2549, 1280, 49
OPTIONS = SearchOptions(beam_size=BEAM, max_words=WORDS, min_words=WORDS)
ATTENDING = ("attention", "updown", "transformer")


def measure(decoder: Decoder, encoded: Encoded, size: int, images: int) -> tuple[float, list[tuple[int, ...]]]:
    """Seconds an image, and the captions, when `images` are searched `size` at a time."""
    begin, found = time.perf_counter(), []
    for start in range(0, images, size):
        part = encoded.rows(slice(start, min(start + size, images)))
        found += [hypothesis.ids for hypothesis in search(decoder, part, OPTIONS)]
    return (time.perf_counter() - begin) / images, found


def main() -> None:
    """Print images a second, and the ratio. A random decoder says nothing for long: all captions have `WORDS` words."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    decoder, means = (
        LstmDecoder(numbered(VOCABULARY), DIM, LstmOptions(256, 512, 1, 0.5)).eval(),
        torch.randn(IMAGES, DIM),
    )
    encoded = Encoded(means, None)
    measure(decoder, encoded, BATCH, BATCH)  # warm up
    (together, many), (alone, single) = (
        measure(decoder, encoded, BATCH, IMAGES),
        measure(decoder, encoded, 1, IMAGES // 8),
    )
    same = sum(a == b for a, b in zip(many, single, strict=False)) / len(single)
    print(f"beam {BEAM}, {WORDS} words, vocabulary {VOCABULARY}, LSTM 512, two threads\n")
    print("| | images/s |\n|---|---|")
    print(f"| one image at a time | {1 / alone:.1f} |\n| batches of {BATCH} | {1 / together:.1f} |")
    print(f"| ratio | {alone / together:.1f} |")
    shipped = resolve.load()
    regions = torch.randn(BATCH, REGIONS, DIM)
    for name in ATTENDING:
        attending = decoders.build(name, numbered(VOCABULARY), DIM, vars(getattr(shipped.decoders, name))).eval()
        measure(attending, Encoded(means[:BATCH], regions), BATCH, BATCH)
        seconds = min(measure(attending, Encoded(means[:BATCH], regions), BATCH, BATCH)[0] for _ in range(3))
        print(f"| {name}, {REGIONS} regions of {DIM}, batches of {BATCH} | {1 / seconds:.1f} |")
    print(f"\nthe same captions: {same:.1%}")


if __name__ == "__main__":
    main()
