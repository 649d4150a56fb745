"""Moments that are too many to be held at once: units given piece by piece, and read block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from forktail.errors import InputError
from forktail.theory.moments import UnitMoments

Pieces = UnitMoments | Iterable[UnitMoments]
"""A unit as a whole, or its coordinates in pieces, in any order."""

PIECE = 1 << 22  # coordinates of the largest piece that is summed in one go
BLOCK = 1 << 16  # coordinates at once: temporaries stay in the cache


@dataclass(frozen=True)
class Piece:
    """Some coordinates of one of several units; nothing is copied.

    Args:
        number: Of the unit.
        moments: Of the unit or a part of it.
        start: First coordinate.
        stop: One after the last.

    Example:
        >>> import numpy as np
        >>> piece = Piece(0, UnitMoments(*[np.ones((1, 5))] * 4), 2, 5)
        >>> [block.num_coordinates for block in piece.blocks()]
        [3]
    """

    number: int
    moments: UnitMoments
    start: int
    stop: int

    def blocks(self) -> Iterator[UnitMoments]:
        """Go through the coordinates.

        Yields:
            At most :data:`BLOCK` coordinates, in float64.
        """
        for start in range(self.start, self.stop, BLOCK):
            yield self.moments.part(slice(start, min(start + BLOCK, self.stop)))


def pieces(parts: Sequence[Pieces], num_tasks: int, name: str) -> Iterator[Piece]:
    """Walk through units, one piece after the other.

    Args:
        parts: The units.
        num_tasks: How many tasks each must have.
        name: What a part is called in a message.

    Yields:
        Pieces of at most :data:`PIECE` coordinates.

    Raises:
        InputError: A part with another number of tasks.

    Example:
        >>> import numpy as np
        >>> unit = UnitMoments(*[np.ones((2, 3))] * 4)
        >>> [(piece.number, piece.stop) for piece in pieces([unit, [unit, unit]], 2, "unit")]
        [(0, 3), (1, 3), (1, 3)]
    """
    for number, part in enumerate(parts):
        for moments in [part] if isinstance(part, UnitMoments) else part:
            if moments.num_tasks != num_tasks:
                raise InputError(
                    f"{name} {number} has moments of {moments.num_tasks} tasks",
                    expected=f"{num_tasks} task{'s' * (num_tasks > 1)}",
                )
            for start in range(0, moments.num_coordinates, PIECE):
                yield Piece(number, moments, start, min(start + PIECE, moments.num_coordinates))
