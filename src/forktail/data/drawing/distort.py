"""Random pictures of a clean bitmap, the same to the last bit on every machine.

Additions, multiplications and divisions give the same bits everywhere; sines, powers and sums of many terms do not.
So an angle is drawn by the tangent of its half, and nothing is summed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forktail.data.drawing.between_pixels import between_pixels
from forktail.data.drawing.turned import turned

SIZE = 28  # side of a picture, in pixels
DRAWS = 12  # random numbers per picture, before one for each pixel

FloatArray = npt.NDArray[np.float64]


def distorted(
    bitmaps: npt.NDArray[np.uint8],
    count: int,
    generator: np.random.RandomState,
    turn: float = 0.0,
    pattern: FloatArray | float = 0.0,
) -> npt.NDArray[np.uint8]:
    """Draw pictures of one character: typeface, affine map, contrast, background and noise at random.

    Every picture takes the same number of draws, so the first pictures do not depend on how many follow.

    Args:
        bitmaps: ``(F, H, W)`` the character in ``F`` typefaces, ink bright on 0; or ``(F, N, H, W)``, a character for
            each picture.
        count: ``N``, how many pictures.
        generator: The source of chance.
        turn: Tangent of half the angle by which all are turned, before the angle of each.
        pattern: ``(N, 28, 28)`` levels that are added to ink and ground; white is 1.

    Returns:
        ``(N, 28, 28)`` grey levels.

    Example:
        >>> square = np.zeros((1, 32, 32), np.uint8)
        >>> square[:, 8:24, 8:24] = 255
        >>> distorted(square, 3, np.random.RandomState(0)).shape
        (3, 28, 28)
    """
    draws = generator.random_sample((count, DRAWS + SIZE * SIZE))
    chance = draws[:, :DRAWS].T[:, :, None, None]  # DRAWS rows of (N, 1, 1)
    noise = draws[:, DRAWS:].reshape(count, SIZE, SIZE) - 0.5
    typeface = (draws[:, 0] * len(bitmaps)).astype(np.intp)
    chosen = bitmaps[typeface] if bitmaps.ndim == 3 else bitmaps[typeface, np.arange(count)]
    rows, columns = _affine(chance[1:7], turn)
    height, width = bitmaps.shape[-2:]
    ink = between_pixels(chosen, rows + (height - 1) / 2, columns + (width - 1) / 2) / 255
    return _shaded(ink, noise, pattern, chance[7:12])


def _affine(chance: FloatArray, turn: float) -> tuple[FloatArray, FloatArray]:
    """Where in the bitmap each pixel of the picture looks, from its centre: rows and columns, ``(N, 28, 28)``."""
    half = 0.1317 * (2 * chance[0] - 1)  # tangent of half the angle: +-15 degrees
    slant = 0.25 * (2 * chance[1] - 1)
    tall = 0.52 + 0.26 * chance[2]  # picture pixels per bitmap pixel: a character is 14 to 22 pixels long
    wide = tall * (0.82 + 0.36 * chance[3])
    steps = np.arange(SIZE) - (SIZE - 1) / 2
    y = steps[:, None] - 3 * (2 * chance[4] - 1)
    x = steps[None, :] - 3 * (2 * chance[5] - 1)
    turned_y, turned_x = turned(half, *turned(turn, y, x))
    return turned_y / tall, (turned_x - slant * turned_y) / wide


def _shaded(
    ink: FloatArray, noise: FloatArray, pattern: FloatArray | float, chance: FloatArray
) -> npt.NDArray[np.uint8]:
    """Put ink on a sloping, noisy ground; three pictures of ten are bright on dark turned dark on bright."""
    ground = 0.35 * chance[0]
    contrast = 0.3 + 0.35 * chance[1]
    steps = np.arange(SIZE) / (SIZE - 1) - 0.5
    slope = 0.4 * ((chance[2] - 0.5) * steps[:, None] + (chance[3] - 0.5) * steps[None, :])
    levels = ground + contrast * ink + slope + 0.25 * noise + pattern
    inverted = np.where(chance[4] < 0.3, 1 - levels, levels)
    pixels: npt.NDArray[np.uint8] = np.rint(255 * np.clip(inverted, 0, 1)).astype(np.uint8)
    return pixels
