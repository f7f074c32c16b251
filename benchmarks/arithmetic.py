"""Which matrix products have the same bits on processors of two makers, and what each way to multiply costs.

    python -m benchmarks.arithmetic      # on each machine; equal digests are equal bits

A row for each way: `MKL_CBWR` of MKL, which multiplies float32 on a CPU, and oneDNN, which could do so in its place.
Digests are of products in the shapes of a layer, of the output layer, and of an odd size.
"""

import hashlib
import json
import subprocess
import sys
import time

from captioning.system import compute

WAYS = ("AVX2", "COMPATIBLE", "SSE4_2", "oneDNN")
SHAPES = {"layer": (64, 256, 256), "output": (960, 256, 2000), "odd": (37, 129, 61)}  # rows, width, outputs
ROUNDS = 40


def measure(way: str) -> None:
    """Print a digest of each product, and the milliseconds of CPU time of that of the output layer, as JSON."""
    if way != "oneDNN":
        compute._AVX2["MKL_CBWR"] = way
    compute.pin(portable=True, threads=1)
    import torch
    from torch.nn.functional import linear

    generator = torch.Generator().manual_seed(0)
    row: dict[str, str | float] = {}
    for name, (rows, width, outputs) in SHAPES.items():
        left, right = (torch.randn(count, width, generator=generator) for count in (rows, outputs))
        weight = right.to_mkldnn() if way == "oneDNN" else right
        seconds = []
        for _ in range(ROUNDS):
            begin = time.process_time()
            product = linear(left.to_mkldnn(), weight).to_dense() if way == "oneDNN" else linear(left, weight)
            seconds.append(time.process_time() - begin)
        row[name] = hashlib.sha256(product.numpy().tobytes()).hexdigest()[:8]
        row["ms"] = 1000 * min(seconds) if name == "output" else row.get("ms", 0.0)
    print(json.dumps(row))


def main() -> None:
    print(f"| {compute.cpu_vendor()} |", " | ".join(SHAPES), "| ms |")
    print("|---|" + "---|" * (len(SHAPES) + 1))
    for way in WAYS:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.arithmetic", way]
        row = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(f"| {way} |", " | ".join(row[name] for name in SHAPES), f"| {row['ms']:.1f} |", flush=True)


if __name__ == "__main__":
    measure(sys.argv[1]) if sys.argv[1:] else main()
