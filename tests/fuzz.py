"""New examples for the property tests, pass after pass, until one fails or the time is over: `make fuzz`.

Each pass has its own seed and draws `--factor` times the examples of `make test`. A failed test prints its example,
a decorator `@reproduce_failure` and the command that draws the same examples again.
"""

import argparse
import secrets
import subprocess
import sys
import time


def run(seed: int, factor: int, more: list[str]) -> int:
    """One pass; `more`: files, tests or options for pytest. The exit status of pytest."""
    drawn = ["-m", "hypothesis", "--fuzz", str(factor), "--hypothesis-seed", str(seed)]
    command = ["pytest", "-n", "2", "--dist", "worksteal", *drawn, *more]
    print(" ".join(command), flush=True)
    return subprocess.run([sys.executable, "-m", *command]).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="no pass begins later (default: %(default)s)")
    parser.add_argument("--factor", type=int, default=5, help="times the examples of make test (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of the first pass; the next one has the next number")
    options, more = parser.parse_known_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    end, passes = time.monotonic() + 60 * options.minutes, 0
    while passes == 0 or time.monotonic() < end:
        if status := run(seed + passes, options.factor, more):
            return status
        passes += 1
    print(f"{passes} passes without a failure, seeds {seed} to {seed + passes - 1}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
