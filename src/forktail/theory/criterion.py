"""The criterion K(s, w): predicted excess risk of sharing the first s units trained with task weights w.

This is the float64 reference, one pass over the coordinates in chunks. Equation numbers are those of docs/theory.md.

Legend: ``K`` tasks, ``W`` candidate weights, ``d`` coordinates of a unit, ``L`` units after the stem. In code, H, S and
M are curvature, score covariance and risk curvature, V the covariance of the Stage-1 solutions u, o the influences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError, nearest
from forktail.theory.moments import FloatArray, UnitMoments

READINGS = ("sandwich", "naive", "average", "unequal", "general")

_CHUNK_ELEMENTS = 1 << 17  # per temporary (K, W, chunk) array: 1 MB, which stays in the cache


@dataclass(frozen=True, eq=False)
class CriterionTable:
    """The criterion on a grid of depths 0..L and W candidate weights, in nats per image.

    Args:
        weights: (W, K) candidate weights, each row on the simplex.
        shared_variance: (L+1, W) first term of eq. 8, variance of the shared units.
        shared_bias: (L+1, W) second term, bias of the shared units; negative values can come from debiasing or damping
            and are left as they are.
        own_variance: (L+1, W) third term, variance of what each task keeps for itself; the same for every weight.
        reading: Name of the reading.
        debiased: Whether the mismatch was debiased.
        damping: lambda >= 0.
        flat: Number of (task, coordinate) pairs with zero curvature, which contribute nothing of that task (eq. 9).
        bound: (L+1, W) the most by which the total can be off; None for the exact table.
        term_bound: (L+1, W) the most by which any one term can be off, which is more where errors of terms cancel.

    Example:
        >>> table = CriterionTable(np.array([[0.5, 0.5]]), *np.array([[[0.0], [1.0]], [[0.0], [2.0]], [[5.0], [1.0]]]),
        ...                        reading="general", debiased=True, damping=0.0, flat=0)
        >>> list(table.rows())[1]
        {'depth': 1, 'weight': 0.5, 'shared_variance': 1.0, 'shared_bias': 2.0, 'own_variance': 1.0, 'total': 4.0}
    """

    weights: FloatArray
    shared_variance: FloatArray
    shared_bias: FloatArray
    own_variance: FloatArray
    reading: str
    debiased: bool
    damping: float
    flat: int
    bound: FloatArray | None = None
    term_bound: FloatArray | None = None

    @property
    def depths(self) -> range:
        """0..L, the row numbers."""
        return range(self.shared_variance.shape[0])

    @property
    def total(self) -> FloatArray:
        """(L+1, W) the criterion K, up to a constant."""
        return self.shared_variance + self.shared_bias + self.own_variance

    def rows(self) -> Iterator[dict[str, object]]:
        """Walk through the cells, weights within depths, as they stand in ``criterion.csv``.

        Yields:
            ``depth, weight, shared_variance, shared_bias, own_variance, total``; see :func:`plain_weight`.
        """
        total = self.total
        for depth in self.depths:
            for column, weights in enumerate(self.weights):
                yield {
                    "depth": depth,
                    "weight": plain_weight(weights),
                    "shared_variance": float(self.shared_variance[depth, column]),
                    "shared_bias": float(self.shared_bias[depth, column]),
                    "own_variance": float(self.own_variance[depth, column]),
                    "total": float(total[depth, column]),
                }


def plain_weight(weights: Sequence[float] | FloatArray) -> float | tuple[float, ...]:
    """Write task weights as people do: for two tasks the first one's weight, else all of them.

    Args:
        weights: (K,) on the simplex.

    Returns:
        A float for K = 2, a tuple of K floats otherwise.

    Example:
        >>> plain_weight([0.3, 0.7]), plain_weight([0.2, 0.3, 0.5])
        (0.3, (0.2, 0.3, 0.5))
    """
    values = tuple(float(weight) for weight in weights)
    return values[0] if len(values) == 2 else values


def criterion_table(
    units: Sequence[UnitMoments],
    decoders: Sequence[UnitMoments],
    *,
    weights: npt.ArrayLike,
    n: npt.ArrayLike,
    reading: str = "general",
    debiased: bool = True,
    damping: float = 0.0,
    own_group_n: npt.ArrayLike | None = None,
) -> CriterionTable:
    """Predict the excess risk of every depth and every weight.

    docs/theory.md, eq. 8, with the readings of its section 6:

    - ``general``: the formula itself, with the given S, S_tu and M. Any ``n``; unequal ``n`` need ``cross=None``.
    - ``sandwich``: H stands for S and M, S_tu = 0. Needs one common n. Damping and debiasing as in ``general``.
    - ``naive``: as ``sandwich``, but the shared variance is sum_k H_k / (2 n J_w). No damped form exists.
    - ``average``: as ``sandwich``, but the shared unit is the weighted mean of the (damped) Stage-1 solutions.
    - ``unequal``: as ``sandwich``, with each task's loss a mean over its own group's images.

    Depth s >= 1 shares units 0 (the stem) to s, depth 0 nothing. Layers add up, so all depths come from prefix sums of
    the shared terms and suffix sums of the tasks' own.

    Args:
        units: The stem and units 1..L, each with K tasks.
        decoders: For each task what is never shared (readout and classifier), with one task each.
        weights: (W, K) candidate weights, each row >= 0 and summing to 1.
        n: (K,) images that each task was trained on.
        reading: One of :data:`READINGS`.
        debiased: Subtract the sampling noise of the measured positions (eq. 7).
        damping: lambda >= 0, precision of the pull towards the initial weights, in units of curvature.
        own_group_n: (K,) images of each task's own classes; for ``unequal`` alone, which uses them instead of ``n``.

    Returns:
        The table.

    Raises:
        InputError: Shapes that do not fit, weights off the simplex, a reading that does not exist or is not defined
            for the other arguments, or a result that is not finite.

    Example:
        >>> fisher = np.array([[4.0], [1.0]])
        >>> unit = UnitMoments(fisher, fisher, fisher, position=np.array([[0.0], [0.1]]))
        >>> decoder = UnitMoments(*[np.ones((1, 1))] * 3, position=np.zeros((1, 1)))
        >>> table = criterion_table([unit, unit], [decoder] * 2, weights=[[0.5, 0.5]], n=[100, 100], debiased=False)
        >>> table.total.round(4)
        array([[0.03 ],
               [0.028]])
    """
    asked = Question.checked(weights, n, reading, debiased, damping, own_group_n)
    _check_moments(units, decoders, asked.num_tasks)
    for unit in units:
        asked.check_cross(unit)

    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported below, with a remedy
        terms = [shared_terms(unit, asked) for unit in units]
        own = np.array([own_variance(unit, asked, range(asked.num_tasks)) for unit in units])
        readout = sum(own_variance(unit, asked, [task]) for task, unit in enumerate(decoders))
    variance, bias = map(np.array, zip(*terms, strict=True))
    flat = sum(int(np.count_nonzero(unit.curvature == 0)) for unit in (*units, *decoders))
    return assembled(variance, bias, own, readout, asked, flat)


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of the moments, checked.

    Args:
        weights: (W, K) candidate weights.
        n: (K,) images that the reading divides by.
        reading: One of :data:`READINGS`.
        debiased: Whether eq. 7 is subtracted.
        damping: lambda >= 0.

    Example:
        >>> Question.checked([[0.5, 0.5]], [10, 10], "naive", True, 0.0, None).num_tasks
        2
    """

    weights: FloatArray
    n: FloatArray
    reading: str
    debiased: bool
    damping: float

    @classmethod
    def checked(
        cls,
        weights: npt.ArrayLike,
        n: npt.ArrayLike,
        reading: str,
        debiased: bool,
        damping: float,
        own_group_n: npt.ArrayLike | None,
    ) -> Question:
        """Refuse what has no meaning; arguments as in :func:`criterion_table`."""
        weights = checked_weights(weights)
        n = _checked_n(n, weights.shape[1], "n")
        check_damping(damping)
        return cls(weights, _images_for_reading(reading, n, own_group_n, damping), reading, debiased, float(damping))

    @property
    def num_tasks(self) -> int:
        """K."""
        return int(self.weights.shape[1])

    def read(self, unit: UnitMoments) -> UnitMoments:
        """Take of some moments what the reading reads."""
        return unit if self.reading == "general" else unit.one_fisher()

    def check_cross(self, unit: UnitMoments) -> None:
        """Refuse cross moments of tasks with different numbers of images."""
        if self.reading == "general" and unit.cross is not None and np.any(self.n != self.n[0]):
            raise InputError(
                f"cross moments with n = {self.n.tolist()}",
                expected="one n, as cross moments need tasks trained on the same images",
            )


def assembled(
    variance: FloatArray,
    bias: FloatArray,
    own: FloatArray,
    readout: float,
    asked: Question,
    flat: int,
    bounds: FloatArray | None = None,
) -> CriterionTable:
    """Add up units to depths: prefix sums of what is shared, suffix sums of what is not (eq. 8).

    Args:
        variance: (L+1, W) shared variance of the stem and of each unit alone.
        bias: (L+1, W) shared bias of each alone.
        own: (L+1,) own variance of each alone, over all tasks.
        readout: Own variance of the decoders.
        asked: The question.
        flat: Pairs (task, coordinate) without curvature.
        bounds: (2, L+1, W) how far off total and terms of each unit can be; None if they are exact.

    Returns:
        The table.

    Raises:
        InputError: If the table is not finite.

    Example:
        >>> shared = np.array([[1.0], [2.0], [3.0]])
        >>> asked = Question.checked([[0.5, 0.5]], [10, 10], "general", True, 0.0, None)
        >>> assembled(shared, 0 * shared, np.array([5.0, 6.0, 7.0]), 1.0, asked, flat=0).total.ravel()
        array([19., 11.,  7.])
    """
    variance, bias = np.cumsum(variance, axis=0), np.cumsum(bias, axis=0)
    variance[0] = bias[0] = 0.0  # the stem counts as shared only together with unit 1
    if bounds is not None:
        bounds = np.cumsum(bounds, axis=1)
        bounds[:, 0] = 0.0
    kept = np.append(np.cumsum(own[::-1])[::-1], 0.0)  # kept[s]: units s..L
    own_variance = readout + np.append(kept[0], kept[2:])
    table = CriterionTable(
        weights=asked.weights,
        shared_variance=variance,
        shared_bias=bias,
        own_variance=np.repeat(own_variance[:, None], len(asked.weights), axis=1),
        reading=asked.reading,
        debiased=asked.debiased,
        damping=asked.damping,
        flat=flat,
        bound=None if bounds is None else bounds[0],
        term_bound=None if bounds is None else bounds[1],
    )
    if not np.all(np.isfinite(table.total)):
        raise InputError(
            "the criterion is not finite: somewhere the curvature is too small for its scores",
            expected="moments within the range of float64",
            remedy="use damping",
        )
    return table


def influence(curvature: FloatArray, weights: FloatArray, damping: float) -> FloatArray:
    """How much each task's solution counts in the solution of the weighted sum of losses.

    docs/theory.md, eq. 4: o_k = w_k (H_k + lambda) / (sum_j w_j H_j + lambda). Without damping, a coordinate in which
    no task of positive weight has curvature stays at the initial weights: all its influences are 0.

    Args:
        curvature: (K, d) H >= 0.
        weights: (W, K) on the simplex.
        damping: lambda >= 0.

    Returns:
        (K, W, d), summing to 1 over K (or 0, as said).

    Example:
        >>> influence(np.array([[3.0], [1.0]]), np.array([[0.5, 0.5]]), damping=0.0).ravel()
        array([0.75, 0.25])
    """
    pull = weights @ curvature + damping  # (W, d)
    damped = curvature + damping
    return weights.T[:, :, None] * ratio(damped[:, None, :], pull[None])


def solution_covariance(unit: UnitMoments, n: FloatArray, damping: float) -> FloatArray:
    """Covariance of the tasks' Stage-1 solutions.

    docs/theory.md, eq. 3: V_jk = S_jk / (n (H_j + lambda)(H_k + lambda)). Without damping it is 0 where a task has no
    curvature: nothing determines that solution, and nothing is said about it.

    Args:
        unit: Moments of K tasks.
        n: (K,) images of each task; all equal if the unit has cross moments.
        damping: lambda >= 0.

    Returns:
        (K, K, d).

    Example:
        >>> unit = UnitMoments(*np.array([[[2.0], [4.0]]] * 3), position=np.zeros((2, 1)))
        >>> solution_covariance(unit, np.array([10.0, 10.0]), damping=0.0)[..., 0]
        array([[0.05 , 0.   ],
               [0.   , 0.025]])
    """
    unit = unit.part(slice(None))
    damped = unit.curvature + damping
    # Dividing twice, instead of once by the product, keeps tiny curvatures from underflowing.
    own = ratio(ratio(unit.scores, damped), damped) / n[:, None]
    if unit.cross is None:
        V = np.zeros((unit.num_tasks, *own.shape))
    else:
        V = ratio(ratio(unit.cross, damped[:, None]), damped[None, :]) / n[0]
    tasks = np.arange(unit.num_tasks)
    V[tasks, tasks] = own
    return V


def shared_terms(unit: UnitMoments, asked: Question) -> tuple[FloatArray, FloatArray]:
    """Variance (eq. 5) and bias (eqs. 6, 7) of one shared unit.

    Args:
        unit: Moments of K tasks.
        asked: The question.

    Returns:
        (W,) variances and (W,) biases.

    Example:
        >>> unit = UnitMoments(*np.array([[[2.0], [4.0]]] * 3), position=np.array([[0.0], [1.0]]))
        >>> shared_terms(unit, Question.checked([[0.5, 0.5]], [10, 10], "general", False, 0.0, None))
        (array([0.05]), array([0.66666667]))
    """
    weights, n, damping = asked.weights, asked.n, asked.damping
    variance, bias = np.zeros(len(weights)), np.zeros(len(weights))
    for part in _chunks(unit, asked, elements_each=weights.size):
        H, M, u = part.curvature, visible_risk(part), part.position
        V = solution_covariance(part, n, damping)
        if asked.reading == "average":
            o = np.broadcast_to(weights.T[:, :, None], (*weights.T.shape, part.num_coordinates))
        else:
            o = influence(H, weights, damping)
        if asked.reading == "naive":
            variance += ratio(1.0, weights @ H) @ H.sum(axis=0) / (2 * n[0])
        else:
            variance += np.einsum("jwd,jkd,kwd->wd", o, V, o, optimize=True) @ M.sum(axis=0) / 2
        slope = damping * ratio(M, H)  # gradient of the risk per unit of movement, eq. 6
        for k in range(unit.num_tasks):
            away = _away(o, k)
            b = np.einsum("jwd,jd->wd", away, u - u[k]) - (o.sum(axis=0) == 0) * u[k]
            bias += b**2 @ M[k] / 2 - b @ (slope[k] * u[k])
            if asked.debiased:
                bias -= np.einsum("jwd,jkd,kwd->wd", away, V, away, optimize=True) @ M[k] / 2
                bias += np.einsum("jwd,jd->wd", away, V[:, k]) @ slope[k]
    return variance, bias


def own_variance(unit: UnitMoments, asked: Question, tasks: Sequence[int]) -> float:
    """Variance of one unit that every task keeps for itself: eq. 5 with o_k = 1 for its own task.

    Args:
        unit: Moments of some tasks.
        asked: The question.
        tasks: Which of its tasks these are.

    Returns:
        Nats per image.

    Example:
        >>> unit = UnitMoments(*np.array([[[2.0], [4.0]]] * 3), position=np.zeros((2, 1)))
        >>> own_variance(unit, Question.checked([[0.5, 0.5]], [10, 10], "general", False, 0.0, None), [0, 1])
        0.1
    """
    n, total = asked.n[list(tasks)], 0.0
    for part in _chunks(unit, asked, elements_each=unit.num_tasks):
        damped = part.curvature + asked.damping
        V = ratio(ratio(part.scores, damped), damped) / n[:, None]
        total += float(np.sum(visible_risk(part) * V)) / 2
    return total


def visible_risk(unit: UnitMoments) -> FloatArray:
    """M where the task's training sees the coordinate at all; elsewhere its optimum there has no meaning (eq. 9).

    Args:
        unit: Moments of K tasks.

    Returns:
        (K, d).

    Example:
        >>> visible_risk(UnitMoments(*np.array([[[2.0, 0.0]], [[1.0, 1.0]], [[3.0, 3.0]], [[0.0, 0.0]]])))
        array([[3., 0.]])
    """
    return np.where(unit.curvature > 0, unit.risk, 0.0)


def _away(o: FloatArray, task: int) -> FloatArray:
    """(K, W, d) influences minus the task's own unit vector, without subtracting nearly equal numbers.

    Influences sum to 1, so o_k - 1 is minus the sum of the others; to 0 where nobody pulls (eq. 9).
    """
    away = o.copy()
    away[task] = 0.0
    away[task] = np.where(o.any(axis=0), -away.sum(axis=0), -1.0)
    return away


def _chunks(unit: UnitMoments, asked: Question, elements_each: int) -> Iterator[UnitMoments]:
    """Cut what the reading reads into pieces, so that temporaries stay small whatever the unit's size."""
    size = max(1, _CHUNK_ELEMENTS // elements_each)
    for start in range(0, unit.num_coordinates, size):
        yield asked.read(unit.part(slice(start, start + size)))


def ratio(numerator: FloatArray | float, denominator: FloatArray) -> FloatArray:
    """A quotient that is 0 where the denominator is 0: the rule of eq. 9, and no epsilon that could decide a result.

    Args:
        numerator: Numbers.
        denominator: Numbers >= 0.

    Returns:
        Of the shape of both together.

    Example:
        >>> ratio(1.0, np.array([4.0, 0.0]))
        array([0.25, 0.  ])
    """
    shape = np.broadcast_shapes(np.shape(numerator), denominator.shape)
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator > 0)


def _images_for_reading(reading: str, n: FloatArray, own_group_n: npt.ArrayLike | None, damping: float) -> FloatArray:
    """The image numbers that a reading divides by; a combination without a definition is refused."""
    if reading not in READINGS:
        raise InputError(f'reading "{reading}"', expected="a known reading", remedy=nearest(reading, READINGS))
    if reading == "unequal":
        if own_group_n is None:
            raise InputError('reading "unequal" without own_group_n', expected="the images of each task's own classes")
        return _checked_n(own_group_n, n.size, "own_group_n")
    if own_group_n is not None:
        raise InputError(f'own_group_n with reading "{reading}"', expected='it with reading "unequal" alone')
    if reading == "naive" and damping > 0:
        raise InputError('damping with reading "naive", which has no damped form', remedy="set damping = 0")
    if np.all(n == n[0]):
        return n
    if reading != "general":
        raise InputError(
            f'n = {n.tolist()} with reading "{reading}"',
            expected="one n common to all tasks",
            remedy='use reading "unequal" or "general"',
        )
    return n


def checked_weights(given: npt.ArrayLike) -> FloatArray:
    """Refuse candidate weights that are none.

    Args:
        given: (W, K) weights, of each candidate one per task.

    Returns:
        The same as float64.

    Raises:
        InputError: If there are none, or a candidate is not on the simplex: numbers >= 0 that sum to 1.

    Example:
        >>> checked_weights([[1, 0], [0.5, 0.5]]).shape
        (2, 2)
    """
    weights = np.asarray(given, dtype=np.float64)
    if weights.ndim != 2 or weights.size == 0:
        raise InputError(f"weights of shape {weights.shape}", expected="(candidates >= 1, tasks >= 1)")
    off = ~((weights >= 0).all(axis=1) & (np.abs(weights.sum(axis=1) - 1) <= 1e-9))
    if off.any():
        raise InputError(f"weights {weights[np.argmax(off)].tolist()}", expected="numbers >= 0 that sum to 1")
    return weights


def _checked_n(given: npt.ArrayLike, num_tasks: int, name: str) -> FloatArray:
    n = np.asarray(given, dtype=np.float64)
    if n.shape != (num_tasks,) or not np.all(np.isfinite(n) & (n > 0)):
        raise InputError(
            f"{name} = {n.tolist()}", expected=f"a positive number of images for each of {num_tasks} tasks"
        )
    return n


def _check_moments(units: Sequence[UnitMoments], decoders: Sequence[UnitMoments], num_tasks: int) -> None:
    if not units:
        raise InputError("no units", expected="the stem and the units after it")
    for depth, unit in enumerate(units):
        if unit.num_tasks != num_tasks:
            raise InputError(f"unit {depth} has moments of {unit.num_tasks} tasks", expected=f"{num_tasks} tasks")
    found = [unit.num_tasks for unit in decoders]
    if found != [1] * num_tasks:
        raise InputError(f"decoders with {found} tasks", expected=f"{num_tasks} decoders with one task each")


def check_damping(damping: float) -> None:
    """Refuse a damping that is none.

    Args:
        damping: lambda.

    Raises:
        InputError: If it is negative or not finite.
    """
    if not (np.isfinite(damping) and damping >= 0):
        raise InputError(f"damping = {damping}", expected="a finite number >= 0")
