"""How strongly training holds the weights to where they began: lambda, from how far they moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.theory.moments import FloatArray, UnitMoments

_LOWEST, _HIGHEST = 1e-150, 1e150  # far outside any curvature, so that only a missing root is ever outside


def movement_damping(units: Sequence[UnitMoments], decoders: Sequence[UnitMoments], n: npt.ArrayLike) -> float:
    """Solve "predicted sum of squared movement = measured" for lambda.

    docs/theory.md, eq. 15: sum_t sum_p predicted_tp(lambda) = sum_t sum_p u_tp^2, see :func:`predicted_movement`. The
    left side falls strictly, from infinity to 0, so there is one root; bisection in log lambda finds it. Pairs (task,
    coordinate) without curvature are left out on both sides.

    Args:
        units: The stem and units 1..L, each with K tasks.
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
    parts = [(unit, n) for unit in units] + [(unit, n[[task]]) for task, unit in enumerate(decoders)]
    measured = sum(float(np.sum(unit.position**2, where=unit.curvature > 0)) for unit, _ in parts)

    def excess(log_damping: float) -> float:
        damping = float(np.exp(log_damping))
        with np.errstate(over="ignore"):  # an infinite prediction is still on the right side of the root
            return sum(float(predicted_movement(unit, images, damping).sum()) for unit, images in parts) - measured

    low, high = float(np.log(_LOWEST)), float(np.log(_HIGHEST))
    if not excess(low) > 0 > excess(high):
        raise InputError(
            f"no damping explains a sum of squared movement of {measured:g}",
            expected="moved weights and positive curvature",
            remedy="give the damping as a number, or train",
        )
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


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
    damped = unit.curvature + damping
    drawn = (unit.curvature / damped) ** 2 / damping
    noise = unit.scores / damped / damped
    return np.where(unit.curvature > 0, (drawn + noise) / n[:, None], 0.0)
