from __future__ import annotations

import math

import numpy as np

from forktail.data.drawing.distort import DRAWS, SIZE, distorted


def by_pixel(bitmaps: np.ndarray, draws: np.ndarray, turn: float = 0, pattern: np.ndarray | None = None) -> np.ndarray:
    """The slow oracle: one picture, pixel by pixel, the turn by sine and cosine of the angle."""
    pattern = np.zeros((SIZE, SIZE)) if pattern is None else pattern
    ink = bitmaps[int(draws[0] * len(bitmaps))].astype(float)
    height, width = ink.shape
    angle = 2 * math.atan(0.1317 * (2 * draws[1] - 1)) + 2 * math.atan(turn)
    slant = 0.25 * (2 * draws[2] - 1)
    tall = 0.52 + 0.26 * draws[3]
    wide = tall * (0.82 + 0.36 * draws[4])
    picture = np.empty((SIZE, SIZE))
    for row in range(SIZE):
        for column in range(SIZE):
            y = row - 13.5 - 3 * (2 * draws[5] - 1)
            x = column - 13.5 - 3 * (2 * draws[6] - 1)
            v = math.cos(angle) * y - math.sin(angle) * x
            u = math.sin(angle) * y + math.cos(angle) * x
            source_y, source_x = v / tall + (height - 1) / 2, (u - slant * v) / wide + (width - 1) / 2
            level = 0.0
            for i in (math.floor(source_y), math.floor(source_y) + 1):
                for j in (math.floor(source_x), math.floor(source_x) + 1):
                    if 0 <= i < height and 0 <= j < width:
                        level += ink[i, j] / 255 * (1 - abs(source_y - i)) * (1 - abs(source_x - j))
            slope = 0.4 * ((draws[9] - 0.5) * (row / 27 - 0.5) + (draws[10] - 0.5) * (column / 27 - 0.5))
            noise = 0.25 * (draws[DRAWS + row * SIZE + column] - 0.5)
            grey = 0.35 * draws[7] + (0.3 + 0.35 * draws[8]) * level + slope + noise + pattern[row, column]
            picture[row, column] = 255 * min(max(1 - grey if draws[11] < 0.3 else grey, 0), 1)
    return picture


def test_against_a_loop_over_pixels() -> None:
    bitmaps = np.zeros((2, 32, 30), np.uint8)
    bitmaps[0, 2:30, 5:9] = 255
    bitmaps[1, 4:12, 2:28] = np.random.RandomState(0).randint(0, 256, (8, 26))
    got = distorted(bitmaps, 5, np.random.RandomState(7))
    draws = np.random.RandomState(7).random_sample((5, DRAWS + SIZE * SIZE))
    expected = np.stack([by_pixel(bitmaps, row) for row in draws])
    np.testing.assert_allclose(got, expected, atol=0.5 + 1e-6)


def test_turned_and_patterned_characters_against_the_loop() -> None:
    bitmaps = np.random.RandomState(0).randint(0, 256, (2, 4, 32, 30)).astype(np.uint8)  # a character each
    pattern = np.random.RandomState(1).uniform(-0.3, 0.3, (4, SIZE, SIZE))
    got = distorted(bitmaps, 4, np.random.RandomState(7), turn=0.6, pattern=pattern)
    draws = np.random.RandomState(7).random_sample((4, DRAWS + SIZE * SIZE))
    expected = np.stack([by_pixel(bitmaps[:, i], draws[i], 0.6, pattern[i]) for i in range(4)])
    np.testing.assert_allclose(got, expected, atol=0.5 + 1e-6)


def test_first_pictures_do_not_depend_on_how_many_follow() -> None:
    bitmaps = np.random.RandomState(0).randint(0, 256, (3, 32, 32)).astype(np.uint8)
    few, many = (distorted(bitmaps, count, np.random.RandomState(5)) for count in (2, 6))
    np.testing.assert_array_equal(few, many[:2])


def test_three_of_ten_are_inverted() -> None:
    bitmaps = np.zeros((1, 32, 32), np.uint8)
    bitmaps[0, 10:22, 10:22] = 255
    drawn = distorted(bitmaps, 400, np.random.RandomState(0)).astype(float)
    darker = drawn[:, 11:17, 11:17].mean(axis=(1, 2)) < drawn[:, [0, -1]].mean(axis=(1, 2))
    assert 90 < darker.sum() < 150
