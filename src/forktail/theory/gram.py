"""The coupled criterion of networks of any size, from inner products of per-image gradients.

With damping and the empirical Fisher of m images, curvatures are lambda + A'A with A the (m, P) gradients over sqrt(m),
so every inverse can be moved to the side of the images: `refined_table` without a matrix larger than tasks x images.
Exact for the m images; where they are a sample of the training set, an approximation. Equation numbers are those of
docs/validation.md.

Legend: ``K`` tasks, ``W`` candidate weights, ``L`` units after the stem, ``m`` images, ``d`` coordinates of one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.theory.criterion import CriterionTable, _checked_weights
from forktail.theory.moments import FloatArray
from forktail.theory.refined import Assembly, Stage2, _check_options, coupled_table


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


def gram_table(
    units: Sequence[UnitGram],
    decoders: Sequence[UnitGram],
    *,
    weights: npt.ArrayLike,
    n: float,
    damping: float,
    assembly: Assembly = "refined",
    stage2: Stage2 = "shared",
    debiased: bool = True,
) -> CriterionTable:
    """Predict the excess risk of every depth and every weight, with all coupling, for networks of any size.

    docs/validation.md, eqs. 9 to 12: the same as `refined_table` of `CoupledMoments.of_gradients`, so H = M = the
    empirical Fisher and S its centred form.

    Args:
        units: The stem and units 1..L, each of K tasks.
        decoders: For each task readout and classifier, of one task each.
        weights: (W, K) candidate weights, each row >= 0 and summing to 1.
        n: Number of images that the tasks were trained on, which may be more than the m of the inner products.
        damping: lambda > 0: without it m images do not determine more than m parameters.
        assembly: ``refined`` or ``raw``, as in `refined_table`.
        stage2: ``shared`` or ``whole``, as in `refined_table`.
        debiased: Subtract the sampling noise of the measured positions.

    Returns:
        The table; its reading is the assembly.

    Raises:
        InputError: Options that are not defined, shapes that do not fit, or no damping.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> gradients, position = rng.normal(size=(2, 4, 1000)), 0.01 * rng.normal(size=(2, 1000))
        >>> unit = UnitGram.of(gradients, position)
        >>> decoder = UnitGram.of(gradients[:1, :, :10], position[:1, :10])
        >>> gram_table([unit, unit], [decoder] * 2, weights=[[0.5, 0.5]], n=4, damping=1.0).total.round(2).ravel()
        array([0.75, 0.93])
    """
    weights = _checked_weights(weights)
    _check_options(weights, len(decoders), n, assembly, stage2, damping)
    if damping == 0:
        raise InputError("damping = 0", expected="a positive damping, as the Fisher of some images is singular")
    _check_shapes(units, decoders)
    levels = [_level(units, decoders, depth, damping) for depth in range(len(units))]
    own = np.array([_own_variance(level) for level in levels]) / n
    variance, bias = np.zeros((2, len(units), len(weights)))
    for depth, level in enumerate(levels[1:], start=1):
        fit = levels[-1] if stage2 == "whole" else level
        for column, w in enumerate(weights):
            total, bias[depth, column] = _cell(levels[0], fit, level, w, n, damping, assembly, debiased)
            variance[depth, column] = total - own[depth]
    return coupled_table(weights, variance, bias, own, assembly=assembly, debiased=debiased, damping=damping)


@dataclass(frozen=True, eq=False)
class _Level:
    """Inner products at one depth, of A instead of the gradients: encoder on one side, decoders on the other."""

    encoder: FloatArray  # (K, K, m, m)  A_tE A_uE'
    decoder: FloatArray  # (K, m, m)     A_tD A_tD'
    resolvent: FloatArray  # (K, m, m)   Q_t = (lambda + A_tD A_tD')^-1
    encoder_moves: FloatArray  # (K, K, m)  A_tE u_uE
    decoder_moves: FloatArray  # (K, m)     A_tD u_tD
    positions: FloatArray  # (K, K)      u_tE' u_uE


def _level(units: Sequence[UnitGram], decoders: Sequence[UnitGram], depth: int, damping: float) -> _Level:
    shared, own = (units[: depth + 1], units[depth + 1 :]) if depth else ([], units)
    tasks, images = range(len(decoders)), units[0].gradients.shape[-1]

    def add(parts: Sequence[UnitGram], name: str) -> Any:
        return sum((getattr(part, name) for part in parts), np.zeros_like(getattr(units[0], name)))

    below, moves = add(own, "gradients"), add(own, "moves")
    decoder = np.stack([below[t, t] + decoders[t].gradients[0, 0] for t in tasks]) / images
    return _Level(
        encoder=add(shared, "gradients") / images,
        decoder=decoder,
        resolvent=np.linalg.inv(decoder + damping * np.eye(images)).astype(np.float64),
        encoder_moves=add(shared, "moves") / np.sqrt(images),
        decoder_moves=np.stack([moves[t, t] + decoders[t].moves[0, 0] for t in tasks]) / np.sqrt(images),
        positions=add(shared, "positions"),
    )


def _own_variance(level: _Level) -> float:
    """N times eq. 8."""
    return sum(_spread(K @ Q) for K, Q in zip(level.decoder, level.resolvent, strict=True)) / 2


def _cell(
    alone: _Level,
    fit: _Level,
    level: _Level,
    w: FloatArray,
    n: float,
    damping: float,
    assembly: Assembly,
    debiased: bool,
) -> tuple[float, float]:
    """Variance and bias of one cell; columns of all arrays: first the means, then one per image for the noise.

    The gradients' noise is A_t'c for every task, with one c of covariance (1 - 11'/m) / n (eq. 9).
    """
    tasks = range(len(w))
    solve = alone.resolvent  # at depth 0 all is decoder: (lambda + A_t A_t')^-1
    away = w[None, :] - np.eye(len(w))  # the mean of the Stage-1 encoders minus task t's own

    def start(at: _Level) -> FloatArray:
        noise = -(away[..., None, None] * (at.encoder @ solve)).sum(axis=1)
        return np.concatenate([np.einsum("tj,tja->ta", away, at.encoder_moves)[..., None], noise], axis=2)

    pull = _stage2(fit, start(fit), w)  # z_t
    steps = start(level) - (level.encoder @ pull).sum(axis=1)  # A_tE (e_w - e_t)
    variance = bias = 0.0
    for t in tasks:
        follow = damping * level.resolvent[t] if assembly == "refined" else np.eye(len(steps[t]))
        seen = follow @ steps[t]  # A_t R_t (e_w - e_t), eq. 11
        mean, noise = seen[:, 0], seen[:, 1:]
        variance += _spread(noise - alone.decoder[t] @ solve[t]) / (2 * n)
        along = away[t] @ level.positions[t] - sum(level.encoder_moves[u, t] @ pull[u][:, 0] for u in tasks)
        if assembly == "refined":
            along -= level.decoder_moves[t] @ level.resolvent[t] @ steps[t][:, 0]
        bias += mean @ mean / 2 - damping * along
        if debiased:  # eqs. 7 and 12
            bias -= (_spread(noise) / 2 + damping * np.sum(solve[t] * _centred(noise).T)) / n
    return float(variance), float(bias)


def _stage2(fit: _Level, start: FloatArray, w: FloatArray) -> FloatArray:
    """z_t = w_t Q_t A_t (e_w - e_t), which takes the mean encoder to Stage 2's: e_w = mean - sum A_t' z_t (eq. 10)."""
    tasks, images, _ = start.shape
    pulls = w[:, None, None] * fit.resolvent
    system = (fit.encoder @ pulls).swapaxes(1, 2).reshape(tasks * images, -1) + np.eye(tasks * images)
    steps = np.linalg.solve(system, start.reshape(tasks * images, -1)).reshape(start.shape)
    return np.asarray(pulls @ steps, dtype=np.float64)


def _centred(matrix: FloatArray) -> FloatArray:
    """Times (1 - 11'/m) from the right."""
    return np.asarray(matrix - matrix.mean(axis=1, keepdims=True), dtype=np.float64)


def _spread(matrix: FloatArray) -> float:
    """N times the expected square of the matrix times c."""
    return float(np.sum(_centred(matrix) ** 2))


def _check_shapes(units: Sequence[UnitGram], decoders: Sequence[UnitGram]) -> None:
    if not units:
        raise InputError("no units", expected="the stem and the units after it")
    tasks, images = len(decoders), units[0].gradients.shape[-1]
    for parts, expected in ((units, (tasks, tasks, images, images)), (decoders, (1, 1, images, images))):
        for number, part in enumerate(parts):
            if part.gradients.shape != expected:
                raise InputError(f"part {number} with inner products {part.gradients.shape}", expected=f"{expected}")
