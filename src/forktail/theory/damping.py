"""How strongly training holds the weights to where they began: lambda, from how far they moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.theory.moments import FloatArray, UnitMoments
from forktail.theory.pieces import Pieces, pieces

_LOWEST, _HIGHEST = 1e-150, 1e150  # far outside any curvature, so that only a missing root is ever outside
_THINNED = 64  # one coordinate of so many gives the value to start from


def movement_damping(units: Sequence[Pieces], decoders: Sequence[Pieces], n: npt.ArrayLike) -> float:
    """Solve "predicted sum of squared movement = measured" for lambda.

    docs/theory.md, eq. 15: sum_t sum_p predicted_tp(lambda) = sum_t sum_p u_tp^2, see :func:`predicted_movement`. The
    left side falls strictly, from infinity to 0, so there is one root. Newton's method in log lambda, where the left
    side's logarithm is nearly straight, finds it: on a few coordinates first, then in three or four passes over all.
    Pairs (task, coordinate) without curvature are left out on both sides.

    Args:
        units: The stem and units 1..L, each with K tasks, whole or in pieces that can be read more than once.
        decoders: For each task what is never shared, with one task each.
        n: (K,) images that each task was trained on.

    Returns:
        lambda > 0, in units of curvature, to a relative accuracy of 1e-12.

    Raises:
        InputError: No root: nothing moved, nothing has curvature, or lambda is beyond 1e-150..1e150.

    Example:
        >>> unit = UnitMoments(*[np.full((1, 1), 4.0)] * 3, position=np.array([[0.1]]))
        >>> damping = movement_damping([unit], [], n=[100])
        >>> round(4 / (100 * damping * (4 + damping)), 12)       # S = H: H / (n lambda (H + lambda)) = u^2
        0.01
    """
    n = np.asarray(n, dtype=np.float64)

    def blocks() -> Iterator[_Block]:
        for piece in pieces(units, n.size, "unit"):
            yield from (_Block(block, n) for block in piece.blocks())
        for piece in pieces(decoders, 1, "decoder"):
            yield from (_Block(block, n[[piece.number]]) for block in piece.blocks())

    measured, thin, measured_of_thin = 0.0, list[_Block](), 0.0
    for block in blocks():
        few = _Block(block.moments.part(slice(None, None, _THINNED)), block.n)
        thin.append(
            _Block(few.moments.part(np.full(few.moments.num_coordinates, True)), few.n)
        )  # a copy: let go of all
        measured, measured_of_thin = measured + _measured(block), measured_of_thin + _measured(few)
    start = _root(lambda damping: _predicted(thin, damping), measured_of_thin, 0.0)
    found = _root(lambda damping: _predicted(blocks(), damping), measured, 0.0 if start is None else start)
    if found is None:
        raise InputError(
            f"no damping explains a sum of squared movement of {measured:g}",
            expected="moved weights and positive curvature",
            remedy="give the damping as a number, or train",
        )
    return float(np.exp(found))


def predicted_movement(unit: UnitMoments, n: FloatArray, damping: float) -> FloatArray:
    """Expected squared distance of the damped Stage-1 solutions from the initial weights.

    docs/theory.md, eq. 14: if the undamped optimum lies N(0, 1 / (n lambda)) from the initial weights, as training with
    that damping supposes, and the gradient has noise S / n, then
    E[u^2] = (H / (H + lambda))^2 / (n lambda) + S / (n (H + lambda)^2).

    Args:
        unit: Moments of K tasks.
        n: (K,) images of each task.
        damping: lambda > 0.

    Returns:
        (K, d), 0 where there is no curvature.

    Example:
        >>> unit = UnitMoments(*[np.full((1, 1), 3.0)] * 3, position=np.zeros((1, 1)))
        >>> predicted_movement(unit, np.array([2.0]), damping=1.0)
        array([[0.375]])
    """
    drawn, noise, _ = _movements(unit, damping)
    return (drawn + noise) / n[:, None]


class _Block(NamedTuple):
    moments: UnitMoments
    n: FloatArray


class _Prediction(NamedTuple):
    """A sum of predicted movements and its derivative by log lambda."""

    value: float
    slope: float


def _movements(unit: UnitMoments, damping: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The two parts of eq. 14 times n, and lambda / (H + lambda), by which both fall."""
    curvature = unit.curvature.astype(np.float64, copy=False)
    damped = curvature + damping
    drawn = curvature / damped
    drawn *= drawn
    drawn /= damping
    noise = unit.scores / damped
    noise /= damped
    noise[curvature == 0] = 0.0
    return drawn, noise, damping / damped


def _predicted(blocks: Iterable[_Block], damping: float) -> _Prediction:
    value = slope = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite prediction is still on the right side of the root
        for moments, n in blocks:
            drawn, noise, held = _movements(moments, damping)
            value += float((drawn + noise).sum(axis=1) @ (1 / n))
            slope -= float((drawn.sum(axis=1) + 2 * np.vecdot(drawn + noise, held)) @ (1 / n))
    return _Prediction(value, slope)


def _measured(block: _Block) -> float:
    return float(np.sum(block.moments.position**2, where=block.moments.curvature > 0))


def _root(predict: Callable[[float], _Prediction], measured: float, start: float) -> float | None:
    """Return log lambda at which the prediction is what was measured; None if there is none."""
    low, high = float(np.log(_LOWEST)), float(np.log(_HIGHEST))
    at, step = start, 1.0
    while measured > 0 and high - low > 1e-12:
        value, slope = predict(float(np.exp(at)))
        if value == 0 and not slope:
            return None
        low, high = (at, high) if value > measured else (low, at)
        step = float(np.log(measured / value) * value / slope) if 0 < value < np.inf else np.inf
        if abs(step) < 1e-7:  # the next one would be its square
            return at + step
        at = at + step if low < at + step < high else (low + high) / 2
    return None
