"""One arithmetic for all tests: pinned before torch is imported."""

from captioning import compute

compute.pin(portable=True, threads=2)
