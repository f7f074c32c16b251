"""Operations that are written for speed on a CPU, each beside the plain one that it stands for.

Model files call them under their ordinary names. With CAPTIONING_PLAIN_KERNELS=1, or after `use(plain=True)`, all of
them are plain: a model gives the same but for last bits, and dropout draws other random numbers. A model folder is read
and written alike either way. `python -m benchmarks.kernels` measures what each is worth.
"""

import os

_plain = os.environ.get("CAPTIONING_PLAIN_KERNELS") == "1"


def use(*, plain: bool) -> None:
    """Choose for this process, ahead of building a network; the environment's choice holds until then."""
    global _plain
    _plain = plain


def plain() -> bool:
    """Are all kernels the plain ones?"""
    return _plain


def describe() -> dict[str, str]:
    """What the bytes of a result depend on: nothing by default."""
    return {"kernels": "plain"} if _plain else {}
