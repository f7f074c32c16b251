"""Matrix products of the output layer, with as many rows as words and with a multiple of 64.

python -m benchmarks.logits
"""

import time
from collections.abc import Callable

from captioning.system import compute

compute.pin(portable=True, threads=2)

import torch  # noqa: E402

HIDDEN, TOKENS, WORDS = 512, 1536, 2549  # an LSTM on Flickr8k, 128 captions of 12 words


def main() -> None:
    """Print GFLOP/s of the layer's forward pass and of both products of its backward pass."""
    torch.set_num_threads(2)
    print("| rows | forward | gradient of the input | gradient of the weight |\n|---|---|---|---|")
    for rows in (WORDS, -(-WORDS // 64) * 64):
        weight, hidden, logits = torch.randn(rows, HIDDEN), torch.randn(TOKENS, HIDDEN), torch.randn(TOKENS, rows)
        bias = torch.randn(rows)
        products: list[Callable[[], torch.Tensor]] = [
            lambda bias=bias, hidden=hidden, weight=weight: torch.addmm(bias, hidden, weight.t()),
            lambda logits=logits, weight=weight: logits @ weight,
            lambda logits=logits, hidden=hidden: logits.t() @ hidden,
        ]
        work = 2e-9 * TOKENS * HIDDEN * WORDS
        print(f"| {rows} | " + " | ".join(f"{work / seconds(product):.0f}" for product in products) + " |")


def seconds(product: Callable[[], torch.Tensor]) -> float:
    """The best of ten."""
    times = []
    for _ in range(11):
        begin = time.perf_counter()
        product()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


if __name__ == "__main__":
    main()
