from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from forktail.data.drawing.distort import SIZE
from forktail.data.drawing.weave import DRAWS, HALF_ANGLES, KINDS, WAVELENGTHS, weave


def by_pixel(kind: int, place: float, lean: float, stretch: float) -> np.ndarray:
    """The slow oracle: one picture, pixel by pixel, by sine and cosine of the angle in degrees."""
    angle = math.radians(18 * (kind // 5)) + 2 * math.atan(0.035 * (2 * lean - 1))
    wavelength = WAVELENGTHS[kind % 5] * (0.94 + 0.12 * stretch)
    picture = np.empty((SIZE, SIZE))
    for row in range(SIZE):
        for column in range(SIZE):
            periods = (math.sin(angle) * row + math.cos(angle) * column) / wavelength + place
            within = periods % 1
            picture[row, column] = 1 - 4 * within if within < 0.5 else 4 * within - 3
    return picture


def test_against_a_loop_over_pixels() -> None:
    chance = np.random.RandomState(0).random_sample((3, DRAWS))
    for kind in (0, 8, 26, KINDS - 1):
        expected = np.stack([by_pixel(kind, *draws) for draws in chance])
        np.testing.assert_allclose(weave(kind, chance), expected, atol=0.005)  # the angles have five digits


def test_no_two_kinds_overlap() -> None:
    angles = np.degrees(2 * np.arctan(HALF_ANGLES))
    np.testing.assert_allclose(angles, 18 * np.arange(10), atol=0.01)
    lean = math.degrees(2 * math.atan(0.035))
    assert 2 * lean < 18 / 2
    for shorter, longer in pairwise(WAVELENGTHS):
        assert shorter * 1.06 < longer * 0.94
    assert WAVELENGTHS[0] * 0.94 > 2  # pixels: what is shorter would look longer


def test_every_kind_is_known_by_its_nominal_wave() -> None:
    """Correlate 20 pictures of each kind with one wave of every kind, at the better of all places."""
    y, x = np.mgrid[:SIZE, :SIZE]
    angles = np.radians(18 * np.arange(10))[:, None, None, None]
    along = np.sin(angles) * y + np.cos(angles) * x
    window = np.outer(np.hanning(SIZE), np.hanning(SIZE))
    waves = window * np.exp(2j * np.pi * along / np.array(WAVELENGTHS)[None, :, None, None])
    flat = waves.reshape(KINDS, -1)
    chance = np.random.RandomState(1).random_sample((20, DRAWS))
    for kind in range(KINDS):
        strength = np.abs(weave(kind, chance).reshape(20, -1) @ flat.T)
        np.testing.assert_array_equal(strength.argmax(axis=1), kind)
