from __future__ import annotations

import math

import numpy as np

from forktail.data.drawing.between_pixels import between_pixels


def test_against_a_loop_over_places() -> None:
    generator = np.random.RandomState(0)
    pictures = generator.randint(0, 256, (3, 5, 4)).astype(np.uint8)
    rows, columns = generator.uniform(-2, 6, (3, 7, 2)), generator.uniform(-2, 5, (3, 7, 2))
    rows[0, 0], columns[0, 0] = [-1, 5], [3, 4]  # on the edges, where only zeros are left
    expected = np.zeros(rows.shape)
    for place in np.ndindex(rows.shape):
        y, x = rows[place], columns[place]
        for i in (math.floor(y), math.floor(y) + 1):
            for j in (math.floor(x), math.floor(x) + 1):
                if 0 <= i < 5 and 0 <= j < 4:
                    expected[place] += pictures[place[0], i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    np.testing.assert_allclose(between_pixels(pictures, rows, columns), expected, atol=1e-10)


def test_pixels_themselves_are_exact() -> None:
    pictures = np.random.RandomState(0).randint(0, 256, (2, 4, 4)).astype(np.uint8)
    rows, columns = np.broadcast_to(np.indices((4, 4), float)[:, None], (2, 2, 4, 4))
    np.testing.assert_array_equal(between_pixels(pictures, rows, columns), pictures)
