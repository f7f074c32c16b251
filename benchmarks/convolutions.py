"""The gradient of a 3 x 3 convolution's weight over small maps: oneDNN's kernel, and one matrix product.

python -m benchmarks.convolutions
"""

from captioning.system import compute

compute.pin(portable=True, threads=2)

import torch  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.logits import seconds  # noqa: E402
from captioning.kernels.convolutions import Conv2d  # noqa: E402

IMAGES = 26  # a batch of the default, 128 captions
MAPS = [(64, 16), (128, 8), (256, 4), (512, 2)]  # channels and places a side: a ResNet-18 on 64 x 64 pixels


def main() -> None:
    """Print GFLOP/s of a forward and backward pass, either way; the product wins up to 4 x 4."""
    torch.set_num_threads(2)
    print("| channels | places | oneDNN | product |\n|---|---|---|---|")
    for channels, side in MAPS:
        images = torch.randn(IMAGES, channels, side, side).contiguous(memory_format=torch.channels_last)
        work = 3 * 2e-9 * IMAGES * side**2 * channels**2 * 9
        rates = [f"{work / _seconds(kind, images):.0f}" for kind in (nn.Conv2d, Conv2d)]
        print(f"| {channels} | {side} x {side} | {' | '.join(rates)} |")


def _seconds(kind: type[nn.Conv2d], images: torch.Tensor) -> float:
    channels = images.shape[1]
    conv = kind(channels, channels, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    images = images.clone().requires_grad_()

    def step() -> torch.Tensor:
        images.grad = conv.weight.grad = None
        found: torch.Tensor = conv(images)
        found.backward(torch.ones_like(found))
        return found

    return seconds(step)


if __name__ == "__main__":
    main()
