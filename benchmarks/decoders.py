"""Training steps and cached decoding: how close each decoder is to the machine, and what a cache saves.

A training step (forward, backward, no optimizer) of a decoder on stored regions, with five captions of each image
side by side, as training plans it, and with an image a caption; against as many floating-point operations as bare
matrix products of side 1,024. The operations are those that PyTorch counts.
And the transformer's `step` with the keys and values of the words so far, against reading the whole caption again.

    python -m benchmarks.decoders
"""

import itertools
import statistics
import time
from collections.abc import Callable

from captioning.system import compute

THREADS = 1
compute.pin(portable=True, threads=THREADS)

import torch  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks.batch import CAPTIONS, FEATURES, REGIONS, TOKENS, WORDS, built  # noqa: E402
from captioning.decoders.base import Decoder  # noqa: E402
from captioning.training.network import Network  # noqa: E402
from captioning.vision.encoders.encoded import Encoded  # noqa: E402

SIDE_BY_SIDE = {"side by side": 5, "apart": 1}  # captions an image
SIDE, ROUNDS = 1024, 7
HYPOTHESES, LONG = 192, 20  # 64 images, beam 3


def training_step(decoder: Decoder, each: int) -> Callable[[], None]:
    """Forward and backward of one batch, with so many captions of each image."""
    network = Network(None, decoder).train()
    regions = torch.randn(CAPTIONS // each, REGIONS, FEATURES)
    tokens = torch.randint(4, WORDS, (CAPTIONS, TOKENS))
    owner = torch.arange(len(regions)).repeat_interleave(each)

    def step() -> None:
        losses = network((regions.mean(1), regions), tokens, owner)
        network.zero_grad()
        torch.stack([loss.value for loss in losses.values()]).sum().backward()

    return step


def products(operations: int) -> Callable[[], None]:
    """As many operations as square matrix products of side SIDE."""
    a, b, c = torch.randn(3, SIDE, SIDE)
    times = round(operations / (2 * SIDE**3))

    def multiply() -> None:
        for _ in range(times):
            torch.mm(a, b, out=c)

    return multiply


def fastest(actions: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Processor seconds of each on one thread, the median of rounds in turns: what else runs disturbs all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS + 1):
        for name, action in actions.items():
            begin = time.process_time()
            action()
            seconds[name].append(time.process_time() - begin)
    return {name: statistics.median(all_seconds[1:]) for name, all_seconds in seconds.items()}


def training() -> None:
    """Print captions a second, GFLOP a step, and the share of the speed of bare products."""
    print(f"{CAPTIONS} captions of {TOKENS - 1} words and {REGIONS} regions of {FEATURES}, {THREADS} thread\n")
    print("| decoder | captions of an image | captions/s | GFLOP/step | GFLOP/s | bare products, GFLOP/s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name, (said, each) in itertools.product(("attention", "updown", "transformer"), SIDE_BY_SIDE.items()):
        step = training_step(built(name), each)
        with FlopCounterMode(display=False) as counter:
            step()
        operations = counter.get_total_flops()
        seconds = fastest({"step": step, "products": products(operations)})
        rate, bare = (operations / seconds[key] / 1e9 for key in ("step", "products"))
        row = f"{CAPTIONS / seconds['step']:.0f} | {operations / 1e9:.1f} | {rate:.0f} | {bare:.0f} | {rate / bare:.2f}"
        print(f"| {name} | {said} | {row} |")


@torch.inference_mode()
def decoding() -> None:
    """Print seconds for LONG words of HYPOTHESES captions, with the cache and without."""
    decoder = built("transformer").eval()
    regions = torch.randn(HYPOTHESES, REGIONS, FEATURES)
    encoded, owner = Encoded(regions.mean(1), regions), torch.arange(HYPOTHESES)
    tokens = torch.randint(4, WORDS, (HYPOTHESES, LONG))
    tokens[:, 0] = decoder.vocabulary.special.bos

    def cached() -> None:
        state = decoder.init(encoded)
        for t in range(LONG):
            _, state = decoder.step(tokens[:, t], state)

    def again() -> None:
        for t in range(LONG):
            decoder(encoded, tokens[:, : t + 1], owner)

    seconds = fastest({"cached": cached, "again": again})
    print(f"\n{LONG} words of {HYPOTHESES} captions, transformer\n\n| | seconds |\n|---|---|")
    print(f"| the whole caption again for each word | {seconds['again']:.2f} |")
    print(f"| `step`, with a cache | {seconds['cached']:.2f} |\n| ratio | {seconds['again'] / seconds['cached']:.1f} |")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    training()
    decoding()
