"""Depthwise convolutions in bfloat16, forward and backward: oneDNN's gradients, and those of `kernels.depthwise`.

On one thread, in batches of 13 images, as a step of cross-entropy has them. Maps are those of EfficientNet-Lite2 and
MobileNetV2 on 224 pixels.

python -m benchmarks.depthwise
"""

from timeit import repeat

from captioning.system import compute

compute.pin(portable=False, threads=1)

import torch  # noqa: E402
from torch import nn  # noqa: E402

from captioning.kernels import depthwise  # noqa: E402

IMAGES = 13
MAPS = [(576, 14, 3, 1), (576, 14, 3, 2), (1248, 7, 5, 1), (720, 14, 5, 2)]  # channels, places a side, kernel, stride


def main() -> None:
    """Print milliseconds of a forward and backward pass, either way."""
    torch.set_num_threads(1)
    print("| channels | places | kernel | stride | oneDNN, ms | here, ms | ratio |\n|---|---|---|---|---|---|---|")
    for channels, side, kernel, stride in MAPS:
        conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        ours = depthwise.like(conv)
        assert ours is not None
        images = torch.randn(IMAGES, channels, side, side).contiguous(memory_format=torch.channels_last)
        theirs, here = (_seconds(kind, images) * 1e3 for kind in (conv, ours))
        print(f"| {channels} | {side} | {kernel} | {stride} | {theirs:.1f} | {here:.1f} | {theirs / here:.1f} |")


def _seconds(conv: nn.Conv2d, images: torch.Tensor) -> float:
    images = images.clone().requires_grad_()

    def step() -> None:
        images.grad = conv.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            found: torch.Tensor = conv(images)
        found.backward(torch.ones_like(found))

    return min(repeat(step, number=1, repeat=9)[1:])


if __name__ == "__main__":
    main()
