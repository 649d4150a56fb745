"""Turn coordinates, with the same bits on every machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def turned(half: FloatArray | float, y: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Turn places about 0 by an angle that is given by the tangent of its half, so that no sine is taken.

    Args:
        half: Tangent of half the angle; 1 is 90 degrees. Broadcasts against the places.
        y: Places down.
        x: Places across.

    Returns:
        The turned places, down and across.

    Example:
        >>> down, across = turned(1.0, np.array([0.0]), np.array([2.0]))
        >>> float(down[0]), float(across[0])
        (-2.0, 0.0)
    """
    cos, sin = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    return cos * y - sin * x, sin * y + cos * x
