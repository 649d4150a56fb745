"""Inner products of per-image gradients and of movements: what the coupled criterion reads of networks of any size.

Equation numbers are those of docs/validation.md. Legend: ``K`` tasks, ``m`` images, ``d`` coordinates of one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.theory.moments import FloatArray


@dataclass(frozen=True, eq=False)
class UnitGram:
    """What the criterion needs of one depth unit's gradients and positions: inner products over its coordinates.

    Args:
        gradients: (K, K, m, m), of image i's gradient in task t and image j's in task u.
        moves: (K, K, m), of image i's gradient in task t and task u's solution minus the initial weights.
        positions: (K, K), of the tasks' solutions minus the initial weights.

    Example:
        >>> gram = UnitGram.of(np.array([[[3.0, 4.0], [0.0, 1.0]]]), np.array([[1.0, 1.0]]))
        >>> gram.gradients[0, 0].tolist(), gram.moves.ravel().tolist()
        ([[25.0, 4.0], [4.0, 1.0]], [7.0, 1.0])
    """

    gradients: FloatArray
    moves: FloatArray
    positions: FloatArray

    @classmethod
    def of(cls, gradients: npt.ArrayLike, position: npt.ArrayLike) -> UnitGram:
        """Take the inner products over some coordinates.

        Args:
            gradients: (K, m, d) per-image gradients, the same images for every task.
            position: (K, d) each task's solution minus the initial weights.

        Returns:
            The inner products.

        Raises:
            InputError: Shapes that do not fit.
        """
        g, u = np.asarray(gradients, dtype=np.float64), np.asarray(position, dtype=np.float64)
        if g.ndim != 3 or u.shape != (g.shape[0], g.shape[2]):
            raise InputError(
                f"gradients of shape {g.shape} and positions of shape {u.shape}",
                expected="(tasks, images, coordinates) and (tasks, coordinates)",
            )
        tasks, images, size = g.shape
        rows = g.reshape(-1, size)
        products = (rows @ rows.T).reshape(tasks, images, tasks, images).swapaxes(1, 2)
        return cls(products, (rows @ u.T).reshape(tasks, images, tasks).swapaxes(1, 2), u @ u.T)

    def merge(self, other: UnitGram) -> UnitGram:
        """Add the inner products over further coordinates: the unit's other tensors, or units that belong together.

        Args:
            other: Of the same images and tasks.

        Returns:
            The inner products over both.
        """
        return UnitGram(self.gradients + other.gradients, self.moves + other.moves, self.positions + other.positions)


@dataclass(frozen=True, eq=False)
class Level:
    """The sums of inner products at one depth, of A, the gradients over sqrt(m): encoder on one side, decoders beside.

    Args:
        encoder: (K, K, m, m), A_tE A_uE'.
        decoder: (K, m, m), A_tD A_tD'.
        resolvent: (K, m, m), Q_t = (lambda + A_tD A_tD')^-1.
        encoder_moves: (K, K, m), A_tE u_uE.
        decoder_moves: (K, m), A_tD u_tD.
        positions: (K, K), u_tE' u_uE.
    """

    encoder: FloatArray
    decoder: FloatArray
    resolvent: FloatArray
    encoder_moves: FloatArray
    decoder_moves: FloatArray
    positions: FloatArray

    @classmethod
    def at(cls, units: Sequence[UnitGram], decoders: Sequence[UnitGram], depth: int, damping: float) -> Level:
        """Add up what is shared and what is not.

        Args:
            units: The stem and units 1..L, each of K tasks.
            decoders: K of one task each.
            depth: s.
            damping: lambda > 0.

        Returns:
            The sums.
        """
        shared, own = (units[: depth + 1], units[depth + 1 :]) if depth else ([], units)
        tasks, images = range(len(decoders)), units[0].gradients.shape[-1]

        def add(parts: Sequence[UnitGram], name: str) -> Any:
            return sum((getattr(part, name) for part in parts), np.zeros_like(getattr(units[0], name)))

        below, moves = add(own, "gradients"), add(own, "moves")
        decoder = np.stack([below[t, t] + decoders[t].gradients[0, 0] for t in tasks]) / images
        return cls(
            encoder=add(shared, "gradients") / images,
            decoder=decoder,
            resolvent=np.linalg.inv(decoder + damping * np.eye(images)).astype(np.float64),
            encoder_moves=add(shared, "moves") / np.sqrt(images),
            decoder_moves=np.stack([moves[t, t] + decoders[t].moves[0, 0] for t in tasks]) / np.sqrt(images),
            positions=add(shared, "positions"),
        )


def centred(matrix: FloatArray) -> FloatArray:
    """Times (1 - 11'/m) from the right (eq. 9).

    Args:
        matrix: (rows, m).

    Returns:
        (rows, m).
    """
    return np.asarray(matrix - matrix.mean(axis=1, keepdims=True), dtype=np.float64)


def spread(matrix: FloatArray) -> float:
    """N times the expected square of the matrix times c (eq. 9).

    Args:
        matrix: (rows, m).

    Returns:
        The sum of its centred squares.
    """
    return float(np.sum(centred(matrix) ** 2))
