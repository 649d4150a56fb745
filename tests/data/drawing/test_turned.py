from __future__ import annotations

import math

import numpy as np
import pytest

from forktail.data.drawing.turned import turned

Y, X = np.random.RandomState(0).standard_normal((2, 5, 7))


@pytest.mark.parametrize("degrees", [-15, 0, 30, 90, 162])
def test_against_sine_and_cosine(degrees: float) -> None:
    angle = math.radians(degrees)
    down, across = turned(math.tan(angle / 2), Y, X)
    np.testing.assert_allclose(down, math.cos(angle) * Y - math.sin(angle) * X, atol=1e-12)
    np.testing.assert_allclose(across, math.sin(angle) * Y + math.cos(angle) * X, atol=1e-12)


def test_no_turn_changes_no_bit() -> None:
    down, across = turned(0.0, Y, X)
    np.testing.assert_array_equal(down, Y)
    np.testing.assert_array_equal(across, X)


def test_every_picture_by_its_own_angle() -> None:
    halves = np.array([0.1, -0.3, 2.0, 0.0, 1.0])
    down, across = turned(halves[:, None], Y, X)
    for i, half in enumerate(halves):
        np.testing.assert_array_equal([down[i], across[i]], turned(half, Y[i], X[i]))
