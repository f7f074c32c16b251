"""An encoder whose last blocks are trained, forward: as a whole, and in two parts of which the first is run apart.

A step of cross-entropy encodes its images once, one of self-critical training twice, and the first part only once.
MobileNetV2, trained from features.14 on, at 288 pixels, on one thread.

python -m benchmarks.division [bfloat16]     # under autocast; else float32
"""

import sys
from collections.abc import Callable
from timeit import repeat

from captioning.system import compute

HALF = sys.argv[1:] == ["bfloat16"]
compute.pin(portable=not HALF, threads=1)

import torch  # noqa: E402

from captioning.training.encoder.fine_tuning import EncoderTraining  # noqa: E402
from captioning.vision.encoders import backbones, encoders  # noqa: E402

NAME, BLOCK, SIZE = "mobilenet_v2", "features.14", 288
IMAGES = {"cross-entropy": (13, 1), "self-critical": (32, 2)}  # images a step, and how often they are encoded


def main() -> None:
    """Print seconds a step, either way."""
    torch.set_num_threads(1)
    transform = backbones.transform_for(NAME, SIZE, pretrained=True, crop="none")
    encoder = encoders.build(NAME, transform=transform, weights={})
    training = EncoderTraining(encoder, from_block=BLOCK, batchnorm="eval")
    training.begin_captions(1)
    divided = training.divided
    assert divided is not None
    print("| step | images | whole | in parts | ratio |\n|---|---|---|---|---|")
    for name, (count, passes) in IMAGES.items():
        pixels = torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=HALF):
            whole = passes * _seconds(lambda pixels=pixels: encoder(pixels))
            ahead = divided.ahead(pixels)
            front = _seconds(lambda pixels=pixels: divided.ahead(pixels)[0])
            back = passes * _seconds(lambda ahead=ahead: divided.regions(ahead))
        print(f"| {name} | {count} | {whole:.3f} s | {front + back:.3f} s | {whole / (front + back):.1f} |")


def _seconds(passes: Callable[[], torch.Tensor]) -> float:
    """The best of eight."""
    return min(repeat(passes, number=1, repeat=9)[1:])


if __name__ == "__main__":
    main()
