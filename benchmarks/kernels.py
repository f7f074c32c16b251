"""What each kernel is worth: a training step with all of them, and with one of them plain.

Forward and backward, without an optimizer, on one thread; processor seconds, the median of rounds in turns. Decoders
have the sizes of params.yaml for photographs and read 130 captions, five an image, of 49 regions of 1,280.

    python -m benchmarks.kernels [bfloat16]     # under autocast, with all vector units; else float32 under AVX2
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from unittest import mock

from captioning.system import compute

HALF = sys.argv[1:] == ["bfloat16"]
compute.pin(portable=not HALF, threads=1)

import torch  # noqa: E402

from benchmarks.batch import CAPTIONS, EACH, FEATURES, REGIONS, TOKENS, WORDS, built  # noqa: E402
from benchmarks.vocabulary import numbered  # noqa: E402
from captioning import kernels  # noqa: E402
from captioning.kernels import attention, captions, convolutions, dropout, logits  # noqa: E402
from captioning.training.encoder import division  # noqa: E402
from captioning.training.encoder.fine_tuning import EncoderTraining  # noqa: E402
from captioning.training.heads import EncoderHeads  # noqa: E402
from captioning.training.network import Network  # noqa: E402
from captioning.vision.encoders import backbones, encoders  # noqa: E402

ROUNDS = 5
PLAIN = SimpleNamespace(plain=lambda: True)
Step = Callable[[], None]


def on_features(name: str) -> Step:
    """A training step of a decoder on stored features."""
    network = Network(None, built(name)).train()
    regions = torch.randn(CAPTIONS // EACH, REGIONS, FEATURES)
    return step(network, (regions.mean(1), regions))


def end_to_end(name: str, size: int, block: str) -> Step:
    """A training step of an LSTM and an encoder from `block` on, with the pixels of as many images."""
    transform = backbones.transform_for(name, size, pretrained=False)
    encoder = encoders.build(name, transform=transform, weights={})
    training = EncoderTraining(encoder, from_block=block, batchnorm="batch" if block == "all" else "eval")
    heads = EncoderHeads(training, numbered(WORDS), word_presence=1.0)
    network = Network(training, built("lstm", encoder.dim), heads)
    network.begin_captions(1)
    return step(network, (torch.randint(0, 256, (CAPTIONS // EACH, 3, size, size), dtype=torch.uint8),))


def step(network: Network, inputs: tuple[torch.Tensor, ...]) -> Step:
    """Forward and backward of one batch, five captions an image side by side."""
    tokens = torch.randint(4, WORDS, (CAPTIONS, TOKENS))
    owner = torch.arange(CAPTIONS // EACH).repeat_interleave(EACH)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16) if HALF else nullcontext():
            losses = network(inputs, tokens, owner)
        network.zero_grad()
        torch.stack([loss.value.float() for loss in losses.values()]).sum().backward()

    return run


KERNELS: dict[str, tuple[ModuleType, str, Callable[[], Step]]] = {
    "additive attention": (attention, "attention", lambda: on_features("attention")),
    "scaled dot products": (attention, "transformer", lambda: on_features("transformer")),
    "dropout": (dropout, "transformer", lambda: on_features("transformer")),
    "logits": (logits, "transformer", lambda: on_features("transformer")),
    "captions side by side": (captions, "updown", lambda: on_features("updown")),
    "convolutions": (convolutions, "lstm, resnet18 at 64 pixels", lambda: end_to_end("resnet18", 64, "all")),
    "division": (
        division,
        "lstm, mobilenet_v2 at 288 pixels from features.14",
        lambda: end_to_end("mobilenet_v2", 288, "features.14"),
    ),
}


def seconds(module: ModuleType, build: Callable[[], Step]) -> tuple[float, float]:
    """Processor seconds of a step with all kernels, and with that of `module` plain."""
    switches = {"fast": kernels, "plain": PLAIN}
    steps, spent = {}, {name: list[float]() for name in switches}
    for name, switch in switches.items():
        with mock.patch.object(module, "kernels", switch):
            steps[name] = build()
    for turn in range(2 * ROUNDS + 2):
        name = ("fast", "plain", "plain", "fast")[turn % 4]
        with mock.patch.object(module, "kernels", switches[name]):
            begin = time.process_time()
            steps[name]()
            spent[name].append(time.process_time() - begin)
    fast, plain = (statistics.median(all_of[1:]) for all_of in spent.values())
    return fast, plain


def main() -> None:
    """Print a row for each kernel."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| kernel | training step of | with it | plain | ratio |\n|---|---|---|---|---|")
    for name, (module, said, build) in KERNELS.items():
        fast, plain = seconds(module, build)
        print(f"| {name} | {said} | {fast:.3f} s | {plain:.3f} s | {plain / fast:.2f} |", flush=True)


if __name__ == "__main__":
    main()
