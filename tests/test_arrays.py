"""Operations of a search on NumPy's arrays, against plain ones and torch's."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captioning.search.arrays import of_numpy, of_torch


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Numbers (N, V), some equal and some −∞, and how many of the largest are asked for."""
    count, width = draw(st.integers(0, 4)), draw(st.integers(1, 40)) * draw(st.sampled_from([1, 32, 77]))
    kinds = draw(st.integers(1, 2 * width))  # so many different numbers: fewer, more that are equal
    generator = np.random.default_rng(draw(st.integers(0, 999)))
    x = generator.integers(kinds, size=(count, width)).astype(np.float32)
    x[generator.random(x.shape) < draw(st.sampled_from([0.0, 0.1, 0.9]))] = -math.inf
    return x, draw(st.integers(1, min(width, 20)))


@given(rows())
def test_the_largest_are_those_of_a_sorted_row(drawn: tuple[np.ndarray, int]) -> None:
    x, count = drawn
    values, places = of_numpy.largest(x, count)
    assert np.array_equal(values, -np.sort(-x, axis=1)[:, :count])
    assert np.array_equal(values, np.take_along_axis(x, places, axis=1))
    assert all(len(set(row)) == count for row in places.tolist())
    assert np.array_equal(values, of_torch.largest(torch.from_numpy(x), count)[0].numpy())


@pytest.mark.parametrize("place", [0, 63, 64, 12_735, 12_736, 12_749])
def test_the_largest_is_found_wherever_it_stands(place: int) -> None:
    """12,750 numbers are whole blocks and a rest."""
    x = np.linspace(0, 1, 12_750, dtype=np.float32)[None].repeat(2, 0)
    x[1] = x[1, ::-1]
    x[:, place] = 2
    assert of_numpy.largest(x, 10)[1][:, 0].tolist() == [place, place]
