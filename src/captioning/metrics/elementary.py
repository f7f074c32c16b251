"""log, exp and power by the C library, value by value.

numpy has its own for processors with AVX-512, and they differ from the others' in the last digit. Each distinct value
is computed once.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from captioning.metrics.ngrams import Floats


def log(values: Floats) -> Floats:
    """The natural logarithm of each value, in an array of the same shape."""
    return _each(math.log, values)


def exp(values: Floats) -> Floats:
    """e to the power of each value, in an array of the same shape."""
    return _each(math.exp, values)


def root(values: Floats, degree: int) -> Floats:
    """Each value to the power of 1 / degree, in an array of the same shape."""
    return _each(lambda value: math.pow(value, 1 / degree), values)


def _each(function: Callable[[float], float], values: NDArray[np.floating]) -> Floats:
    distinct, places = np.unique(values, return_inverse=True)
    return np.array([function(value) for value in distinct.tolist()], dtype=np.float64)[places].reshape(values.shape)
