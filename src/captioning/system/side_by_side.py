"""Work on a list of things by several threads, whose results come in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

_AHEAD = 2  # parts that are done, or waited for, beyond those at work
_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


def in_order(work: Callable[[_Part], _Result], parts: Iterable[_Part], threads: int) -> Generator[_Result, None, None]:
    """`work` of each part, in order; threads work on them, each on one core, and only so far ahead."""
    waiting: deque[Future[_Result]] = deque()
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) >= threads + _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)  # a part of it belongs to the process
