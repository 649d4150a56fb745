"""The coupled criterion of networks of any size, from inner products of per-image gradients.

With damping and the empirical Fisher of m images, curvatures are lambda + A'A with A the (m, P) gradients over sqrt(m),
so every inverse can be moved to the side of the images: `refined_table` without a matrix larger than tasks x images.
Exact for the m images; where they are a sample of the training set, an approximation. Equation numbers are those of
docs/validation.md.

Legend: ``K`` tasks, ``W`` candidate weights, ``L`` units after the stem, ``m`` images, ``d`` coordinates of one unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.theory.criterion import CriterionTable, checked_weights
from forktail.theory.gram_pair import Pair
from forktail.theory.moments import FloatArray
from forktail.theory.refined import Assembly, Stage2, check_options, coupled_table
from forktail.theory.unit_gram import Level, UnitGram, centred, spread

__all__ = ["UnitGram", "gram_table"]


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

    docs/validation.md, eqs. 9 to 13: the same as `refined_table` of `CoupledMoments.of_gradients`, so H = M = the
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
    weights = checked_weights(weights)
    check_options(weights, len(decoders), n, assembly, stage2, damping)
    if damping == 0:
        raise InputError("damping = 0", expected="a positive damping, as the Fisher of some images is singular")
    _check_shapes(units, decoders)
    alone, deepest = (Level.at(units, decoders, depth, damping) for depth in (0, len(units) - 1))
    own = np.full(len(units), _own_variance(alone) / n)
    variance, bias = np.zeros((2, len(units), len(weights)))
    pair = Pair.of(alone, deepest) if stage2 == "whole" and len(decoders) == 2 else None
    for depth in range(1, len(units)):
        level = Level.at(units, decoders, depth, damping)
        own[depth] = _own_variance(level) / n
        if len(decoders) == 2:
            total, bias[depth] = (pair or Pair.of(alone, level)).cells(level, weights, n, damping, assembly, debiased)
        else:
            fit = deepest if stage2 == "whole" else level
            cells = [_cell(alone, fit, level, w, n, damping, assembly, debiased) for w in weights]
            total, bias[depth] = np.transpose(cells)
        variance[depth] = total - own[depth]
    return coupled_table(weights, variance, bias, own, assembly=assembly, debiased=debiased, damping=damping)


def _own_variance(level: Level) -> float:
    """N times eq. 8."""
    return sum(spread(K @ Q) for K, Q in zip(level.decoder, level.resolvent, strict=True)) / 2


def _cell(
    alone: Level,
    fit: Level,
    level: Level,
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

    def start(at: Level) -> FloatArray:
        noise = -(away[..., None, None] * (at.encoder @ solve)).sum(axis=1)
        return np.concatenate([np.einsum("tj,tja->ta", away, at.encoder_moves)[..., None], noise], axis=2)

    pull = _stage2(fit, start(fit), w)  # z_t
    steps = start(level) - (level.encoder @ pull).sum(axis=1)  # A_tE (e_w - e_t)
    variance = bias = 0.0
    for t in tasks:
        follow = damping * level.resolvent[t] if assembly == "refined" else np.eye(len(steps[t]))
        seen = follow @ steps[t]  # A_t R_t (e_w - e_t), eq. 11
        mean, noise = seen[:, 0], seen[:, 1:]
        variance += spread(noise - alone.decoder[t] @ solve[t]) / (2 * n)
        along = away[t] @ level.positions[t] - sum(level.encoder_moves[u, t] @ pull[u][:, 0] for u in tasks)
        if assembly == "refined":
            along -= level.decoder_moves[t] @ level.resolvent[t] @ steps[t][:, 0]
        bias += mean @ mean / 2 - damping * along
        if debiased:  # eqs. 7 and 12
            bias -= (spread(noise) / 2 + damping * np.sum(solve[t] * centred(noise).T)) / n
    return float(variance), float(bias)


def _stage2(fit: Level, start: FloatArray, w: FloatArray) -> FloatArray:
    """z_t = w_t Q_t A_t (e_w - e_t), which takes the mean encoder to Stage 2's: e_w = mean - sum A_t' z_t (eq. 10)."""
    tasks, images, _ = start.shape
    pulls = w[:, None, None] * fit.resolvent
    system = (fit.encoder @ pulls).swapaxes(1, 2).reshape(tasks * images, -1) + np.eye(tasks * images)
    steps = np.linalg.solve(system, start.reshape(tasks * images, -1)).reshape(start.shape)
    return np.asarray(pulls @ steps, dtype=np.float64)


def _check_shapes(units: Sequence[UnitGram], decoders: Sequence[UnitGram]) -> None:
    if not units:
        raise InputError("no units", expected="the stem and the units after it")
    tasks, images = len(decoders), units[0].gradients.shape[-1]
    for parts, expected in ((units, (tasks, tasks, images, images)), (decoders, (1, 1, images, images))):
        for number, part in enumerate(parts):
            if part.gradients.shape != expected:
                raise InputError(f"part {number} with inner products {part.gradients.shape}", expected=f"{expected}")
