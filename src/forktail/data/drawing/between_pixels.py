"""Read pictures at places that are no pixels, with the same bits on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def between_pixels(pictures: npt.NDArray[Any], rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Interpolate linearly between the four pixels around each place; outside a picture everything is 0.

    Args:
        pictures: ``(M, H, W)`` levels.
        rows: ``(M, ...)`` places in each picture, in pixels; 0 is the middle of the first row.
        columns: ``(M, ...)`` the same across.

    Returns:
        ``(M, ...)`` levels.

    Example:
        >>> slope = np.array([[[0.0, 1.0, 2.0]]])
        >>> between_pixels(slope, np.zeros((1, 3)), np.array([[0.5, 2.0, 2.5]]))
        array([[0.5, 2. , 1. ]])
    """
    height, width = pictures.shape[1:]
    padded = np.pad(pictures, ((0, 0), (1, 2), (1, 2)))
    rows, columns = np.clip(rows + 1, 0, height + 1), np.clip(columns + 1, 0, width + 1)
    top, left = rows.astype(np.intp), columns.astype(np.intp)
    down, right = rows - top, columns - left
    which = np.arange(len(pictures)).reshape(-1, *[1] * (rows.ndim - 1))
    upper = padded[which, top, left] * (1 - right) + padded[which, top, left + 1] * right
    lower = padded[which, top + 1, left] * (1 - right) + padded[which, top + 1, left + 1] * right
    mixed: FloatArray = upper * (1 - down) + lower * down
    return mixed
