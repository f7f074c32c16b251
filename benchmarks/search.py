"""Batched beam search against one image at a time, over the same decoder and the same pictures.

python -m benchmarks.search
"""

import time

from captioning import compute

compute.pin(portable=True, threads=2)

import torch  # noqa: E402

from captioning.decoders.base import Encoded  # noqa: E402
from captioning.decoders.lstm import LstmDecoder, LstmOptions  # noqa: E402
from captioning.search import SearchOptions, search  # noqa: E402

IMAGES, BATCH, BEAM, WORDS, VOCABULARY = 512, 128, 3, 20, 2549


def main() -> None:
    """Print images a second, and the ratio. A random decoder says nothing for long: all captions have `WORDS` words."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    decoder = LstmDecoder(VOCABULARY, 1280, LstmOptions(256, 512, 1, 0.5)).eval()
    encoded = torch.randn(IMAGES, 1280)
    options = SearchOptions(beam_size=BEAM, max_words=WORDS, min_words=WORDS)

    def seconds(size: int, images: int) -> tuple[float, list[tuple[int, ...]]]:
        begin = time.perf_counter()
        found = [
            hypothesis.ids
            for start in range(0, images, size)
            for hypothesis in search(decoder, Encoded(encoded[start : min(start + size, images)], None), options)
        ]
        return (time.perf_counter() - begin) / images, found

    seconds(BATCH, BATCH)  # warm up
    (together, many), (alone, single) = seconds(BATCH, IMAGES), seconds(1, IMAGES // 8)
    same = sum(a == b for a, b in zip(many, single, strict=False)) / len(single)
    print(f"beam {BEAM}, {WORDS} words, vocabulary {VOCABULARY}, LSTM 512, two threads\n")
    print("| | images/s |\n|---|---|")
    print(f"| one image at a time | {1 / alone:.1f} |\n| batches of {BATCH} | {1 / together:.1f} |")
    print(f"| ratio | {alone / together:.1f} |\n\nthe same captions: {same:.1%}")


if __name__ == "__main__":
    main()
