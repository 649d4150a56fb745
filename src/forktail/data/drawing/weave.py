"""Stripes over a whole picture, in fifty kinds that a look at a few pixels can tell apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forktail.data.drawing.distort import SIZE
from forktail.data.drawing.turned import turned

# Tangents of half the angle: every 18 degrees of the half turn after which stripes are the same again.
HALF_ANGLES = (0.0, 0.1584, 0.3249, 0.5095, 0.7265, 1.0, 1.3764, 1.9626, 3.0777, 6.3138)
WAVELENGTHS = (3.0, 3.9, 5.1, 6.6, 8.6)  # pixels, each 1.3 times the one before
KINDS = len(HALF_ANGLES) * len(WAVELENGTHS)
DRAWS = 3  # random numbers per picture

FloatArray = npt.NDArray[np.float64]


def weave(kind: int, chance: FloatArray) -> FloatArray:
    """Draw stripes of one kind, an angle and a wavelength, at a random place.

    The level runs straight up and down between -1 and 1. Angles vary by 4 degrees to either side, wavelengths by 6 %,
    so no picture of one kind could be one of another.

    Args:
        kind: 0 to 49.
        chance: ``(N, 3)`` random numbers in [0, 1).

    Returns:
        ``(N, 28, 28)`` levels, -1 to 1.

    Example:
        >>> weave(0, np.array([[0.0, 0.5, 0.5]]))[0, 0, :4].round(2)
        array([ 1.  , -0.33, -0.33,  1.  ])
    """
    place, lean, stretch = chance.T[:, :, None, None]
    angle, wavelength = divmod(kind, len(WAVELENGTHS))
    steps = np.arange(SIZE, dtype=np.float64)
    _, across = turned(0.035 * (2 * lean - 1), *turned(HALF_ANGLES[angle], steps[:, None], steps[None, :]))
    periods = across / (WAVELENGTHS[wavelength] * (0.94 + 0.12 * stretch)) + place
    levels: FloatArray = 4 * np.abs(periods - np.floor(periods) - 0.5) - 1
    return levels
