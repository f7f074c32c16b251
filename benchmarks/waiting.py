"""What it costs that OpenMP's threads spin while they wait: steps of the default's training, alone and in company.

A thread that is through with its part of a loop spins `GOMP_SPINCOUNT` turns before it sleeps. Where another process
has the core of the thread that it waits for, those turns are lost. `compute.SPINS` is the count that stages have.

    python -m benchmarks.waiting 1000 10000 100000 none      # after `dvc repro features`; none: libgomp's own

Counts take turns, and each row is a median over rounds, since machines are noisy.
"""

import statistics
import subprocess
import sys
import time

from captioning.system import compute

BUSY = (0, 1, 3)  # other processes, each of which takes a core
STEPS, WARM, ROUNDS = 30, 6, 5


def _steps(spins: str) -> None:
    """Print the median seconds of a step, in a process of its own: the count is read when libraries load."""
    import os

    compute.pin(portable=True, threads=2)
    if spins == "none":
        del os.environ["GOMP_SPINCOUNT"]
    else:
        os.environ["GOMP_SPINCOUNT"] = spins
    import torch

    from captioning.settings import resolve
    from captioning.training import batches, build, optimization
    from stages import train

    loaded = resolve.load()
    fabric = compute.start(seed=1, threads=2, device="cpu", precision="32-true")
    data = train._data(loaded.train, fabric, words=False)
    initial = train._initial_encoder(loaded.encoder, loaded.seed, data.store)
    network = build.network(loaded, data, initial)
    inputs = build.inputs(loaded, network, data)
    network.begin_captions(1)
    optimizer = optimization.adamw([(network, 1e-3)], 0.01)
    seconds = []
    for numbers in inputs.plan(data.train, 64, (1, 0), 2)[: STEPS + WARM]:
        begin = time.perf_counter()
        batch = batches.collate(data.train, numbers, data.vocabulary.special)
        drawn = inputs.draw(batch.rows, fabric.device)
        losses = network(drawn, batch.tokens, batch.owner, *inputs.labels(batch.rows, fabric.device))
        optimizer.zero_grad()
        torch.stack([loss.value for loss in losses.values()]).sum().backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    print(sorted(seconds[WARM:])[STEPS // 2])


def _beside(busy: int, spins: str) -> float:
    """Seconds of a step beside so many busy processes."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        command = [sys.executable, "-m", "benchmarks.waiting", "--steps", spins]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    finally:
        for other in others:
            other.kill()


def main() -> None:
    if sys.argv[1:2] == ["--steps"]:
        _steps(sys.argv[2])
        return
    counts = sys.argv[1:] or [str(compute.SPINS), "none"]
    seconds: dict[tuple[str, int], list[float]] = {(spins, busy): [] for spins in counts for busy in BUSY}
    for _ in range(ROUNDS):
        for spins, busy in seconds:
            seconds[spins, busy].append(_beside(busy, spins))
    print(f"{'spins':>8} " + " ".join(f"{f'beside {busy}':>10}" for busy in BUSY))
    for spins in counts:
        print(f"{spins:>8} " + " ".join(f"{statistics.median(seconds[spins, busy]):8.3f} s" for busy in BUSY))


if __name__ == "__main__":
    main()
