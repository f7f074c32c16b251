"""Encoding images and training captions, in one table, with the share of what the device can do at most.

The peak is measured: large matrix products in the same precision. The work is what PyTorch counts of matrix products
and convolutions, forward and backward, and a share is work a second over that peak. Inputs are drawn at random and stay
on the device; weights too, since the time does not depend on them. Training steps are those of `train`: forward,
backward, clipping, AdamW. "fine-tuned" runs the encoder on pixels in each step; "frozen" reads stored regions.

    python -m benchmarks.gpu                     # on a machine with a GPU
    python -m benchmarks.gpu cpu resnet18 32     # anywhere: device, encoders (with commas), side in pixels
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.vocabulary import numbered
from captioning import decoders
from captioning.settings import resolve
from captioning.settings.decoders import retrieves
from captioning.training import optimization
from captioning.training.encoder.fine_tuning import EncoderTraining
from captioning.training.heads import EncoderHeads
from captioning.training.network import Network
from captioning.vision.encoders import backbones, encoders

IMAGES, CAPTIONS_EACH, WORDS_EACH, VOCABULARY = 64, 5, 12, 10_000  # a step: 320 captions of a COCO-sized vocabulary
SECONDS = 3.0  # each row is timed for about so long
SIDE = 8192  # of the matrices whose product is the measured peak; less on a CPU


class Bench(NamedTuple):
    """A device, its precision, and the most that it does in that precision, in FLOP/s."""

    device: torch.device
    precision: torch.dtype
    peak: float

    def row(self, name: str, unit: str, units: int, action: Callable[[], object]) -> str:
        """A line of the table: `units` a second, TFLOP/s, share of the peak, peak memory."""
        seconds = rate(self.device, action)
        speed = operations(action) / seconds
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if self.device.type == "cuda" else ""
        share = speed / self.peak
        return f"| {name} | {units / seconds:,.0f} {unit}/s | {speed / 1e12:.2f} | {share:.0%} | {memory} |"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)


def operations(action: Callable[[], object]) -> int:
    """FLOPs of the products and convolutions of a call; those inside torch.nn.LSTM, which PyTorch leaves out, added."""
    inside = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], _: object) -> None:
        nonlocal inside
        if isinstance(module, nn.LSTM):
            weights = sum(weight.numel() for weight in module.parameters() if weight.ndim == 2)
            passes = 3 if torch.is_grad_enabled() else 1  # forward, and both products of the backward pass
            inside += 2 * passes * weights * inputs[0].shape[:2].numel()

    hook = nn.modules.module.register_module_forward_hook(count)
    with FlopCounterMode(display=False) as counter:
        action()
    hook.remove()
    return int(counter.get_total_flops()) + inside


def rate(device: torch.device, action: Callable[[], object]) -> float:
    """Seconds a call, over as many calls as fit in SECONDS, the device's queue included."""
    calls, spent = 1, 0.0
    while spent < SECONDS / 2:
        _wait(device)
        begin = time.perf_counter()
        for _ in range(calls):
            action()
        _wait(device)
        spent = time.perf_counter() - begin
        last, calls = calls, max(calls + 1, int(calls * SECONDS / max(spent, 1e-3)))
    return spent / last


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured(device: torch.device) -> Bench:
    """bf16 on a GPU, float32 elsewhere; the peak by products of square matrices."""
    precision = torch.bfloat16 if device.type == "cuda" else torch.float32
    side = SIDE if device.type == "cuda" else 1024
    a, b = torch.randn(2, side, side, device=device, dtype=precision)
    return Bench(device, precision, 2 * side**3 / rate(device, lambda: a @ b))


def encoding(bench: Bench, name: str, side: int | None) -> str:
    """A row for the frozen encoder as `features` runs it."""
    encoder = _encoder(name, side, bench.device)
    pixels = _pixels(encoder, bench.device)
    frozen = encoders.folded(encoders.freeze(encoder))

    def encode() -> Tensor:
        with torch.inference_mode(), bench.autocast():
            return frozen(pixels)

    return bench.row(f"encode, {name}", "images", IMAGES, encode)


def training(bench: Bench, name: str, side: int | None, decoder: str) -> Iterator[str]:
    """Two rows for a decoder: on stored regions, and with the encoder in the step."""
    encoder = _encoder(name, side, bench.device)
    settings = resolve.load(overrides={"decoder": decoder, "dataset": "coco2014"})
    options = vars(resolve.decoder_options(settings))

    def built() -> decoders.Decoder:
        return decoders.build(decoder, numbered(VOCABULARY), encoder.dim, options)

    regions = torch.randn(IMAGES, encoder.regions, encoder.dim, device=bench.device)
    frozen = Network(None, built())
    yield _step(bench, f"train {decoder}, {name} frozen", frozen, (regions.mean(1), regions))
    training = EncoderTraining(encoder, batchnorm="eval")
    heads = EncoderHeads(training, numbered(VOCABULARY), word_presence=0.0)
    tuned = Network(training, built(), heads)
    yield _step(bench, f"train {decoder}, {name} fine-tuned", tuned, (_pixels(encoder, bench.device),))


def _step(bench: Bench, name: str, network: Network, inputs: tuple[Tensor, ...]) -> str:
    network.to(bench.device).begin_captions(1)
    optimizer = optimization.adamw([(network, 1e-4)], 0.01)
    captions = IMAGES * CAPTIONS_EACH
    tokens = torch.randint(4, VOCABULARY, (captions, WORDS_EACH + 2), device=bench.device)
    owner = torch.arange(IMAGES, device=bench.device).repeat_interleave(CAPTIONS_EACH)

    def step() -> None:
        with bench.autocast():
            losses = network(inputs, tokens, owner)
        optimizer.zero_grad()
        torch.stack([loss.value for loss in losses.values()]).sum().backward()
        optimization.clip([network], optimization.gradient_norms({"all": network})["all"], 5.0)
        optimizer.step()

    return bench.row(name, "captions", captions, step)


def _encoder(name: str, side: int | None, device: torch.device) -> encoders.Encoder:
    transform = backbones.transform_for(name, side, pretrained=True)
    return encoders.build(name, transform=transform, weights={}).to(device)


def _pixels(encoder: encoders.Encoder, device: torch.device) -> Tensor:
    side = encoder.transform.image_size
    return torch.randint(256, (IMAGES, 3, side, side), dtype=torch.uint8, device=device)


def main(device: str = "cuda", names: str = "resnet50,resnet152", side: str = "") -> None:
    """Print the table."""
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here; `python -m benchmarks.gpu cpu resnet18 32` runs anywhere")
    torch.manual_seed(0)
    bench = measured(torch.device(device))
    kind = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    precision = str(bench.precision).removeprefix("torch.")
    print(f"{kind}, {precision}, measured peak {bench.peak / 1e12:.2f} TFLOP/s, torch {torch.__version__}")
    print(f"steps of {IMAGES} images, {IMAGES * CAPTIONS_EACH} captions\n")
    print("| | speed | TFLOP/s | of the peak | memory |\n|---|---|---|---|---|")
    for name in names.split(","):
        print(encoding(bench, name, int(side) if side else None), flush=True)
        for decoder in trained():
            for row in training(bench, name, int(side) if side else None, decoder):
                print(row, flush=True)


def trained() -> list[str]:
    """The decoders that are trained in steps."""
    return [name for name in decoders.DECODERS if not retrieves(name)]


if __name__ == "__main__":
    main(*sys.argv[1:])
