"""Pictures of a class as they leave the kind of the others: less and less told by a shape, more and more by stripes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forktail.data.drawing.distort import distorted
from forktail.data.drawing.weave import DRAWS, weave

STRIPES = 0.25  # how far they go up and down at a mismatch of 1; the noise goes 0.125, ink stands out by 0.3 to 0.65


def mismatched(
    bitmaps: npt.NDArray[np.uint8], own: int, kind: int, mismatch: float, count: int, seed: list[int]
) -> npt.NDArray[np.uint8]:
    """Draw pictures of one class of the tail.

    Three things grow with the mismatch, from nothing:

    - the character is turned, by up to 90 degrees, so that strokes lie where those of no other class lie;
    - stripes cover the picture, whose angle and wavelength are the class's own;
    - a share of the pictures, in the end all, shows a character that is drawn at random from those of all classes.

    At 0 the class is told by its character whatever the ground is, as every class of the head. At 1 it is told by its
    ground whatever the character is: what the head's features must ignore is what the tail's must keep, and the
    reverse. Between them both tell the class.

    A picture keeps its place, noise, slant and typeface at every mismatch, and once its character has been exchanged
    it stays so.

    Args:
        bitmaps: ``(F, C, H, W)`` all characters in ``F`` typefaces, ink bright on 0.
        own: The character of the class.
        kind: Its stripes.
        mismatch: 0 to 1.
        count: ``N``, how many pictures.
        seed: Where all chance comes from.

    Returns:
        ``(N, 28, 28)`` grey levels; at a mismatch of 0 those of `distorted`.

    Example:
        >>> squares = np.full((1, 2, 32, 32), 255, np.uint8)
        >>> mismatched(squares, own=0, kind=7, mismatch=0.5, count=3, seed=[0]).shape
        (3, 28, 28)
    """
    chance = np.random.RandomState([*seed, 1]).random_sample((count, 2 + DRAWS))  # apart from the chance of `distorted`
    another = (chance[:, 1] * bitmaps.shape[1]).astype(np.intp)
    shown = np.where(chance[:, 0] < mismatch, another, own)
    stripes = STRIPES * mismatch * weave(kind, chance[:, 2:])
    # the tangent of half the angle: 1 is 90 degrees
    return distorted(bitmaps[:, shown], count, np.random.RandomState(seed), turn=mismatch, pattern=stripes)
