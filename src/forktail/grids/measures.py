"""Does a criterion predict? Correlation with what was measured, regret of the selected cell, and what it gains.

docs/grid.md defines every measure. The measures of one seed are functions of its distinct cells; only `summary` knows
of seeds.

Legend: ``D`` depths, ``W`` head weights, ``n`` distinct cells (see `Cells`), ``S`` seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError, nearest
from forktail.grids.cells import ROUNDING, Cells
from forktail.grids.intervals import Range, interval, resample
from forktail.labels import FloatArray

Kind = Literal["spearman", "kendall"]

_SHARE, _DIFFERENCE, _LENGTH = (0.0, 100.0), (-100.0, 100.0), (0.0, np.inf)

# The smallest and the largest value that a measure can have.
MEASURES: dict[str, Range] = {
    "spearman": (-1, 1),
    "kendall": (-1, 1),
    "spearman_risk": (-1, 1),
    "kendall_risk": (-1, 1),
    "spearman_risk_of_weights": (-1, 1),
    "spearman_risk_of_depths": (-1, 1),
    "search_regret": _DIFFERENCE,
    "oracle_regret": _SHARE,
    "gain": _DIFFERENCE,
    "gain_depth_alone": _DIFFERENCE,
    "gain_weight_alone": _DIFFERENCE,
    "gain_over_nothing_shared": _DIFFERENCE,
    "slope": (-np.inf, np.inf),
    "slope_through_reference": (-np.inf, np.inf),
    "rms_off": _LENGTH,
    "rms_measured": _LENGTH,
}


@dataclass(frozen=True, eq=False)
class Measured:
    """What the networks of one seed scored on one set of images.

    Args:
        risk: (D, W) summed binary cross-entropy, nats per image, of which the criterion speaks.
        error: (D, W) one minus balanced accuracy, 0 to 1.

    Example:
        >>> Measured(risk=[[0.2, 0.2], [0.1, 0.3]], error=[[0.5, 0.5], [0.4, 0.6]]).error[1]
        [0.4, 0.6]
    """

    risk: npt.ArrayLike
    error: npt.ArrayLike


def correlation(predicted: FloatArray, measured: FloatArray, kind: Kind = "spearman") -> float | None:
    """Rank correlation of two values over cells, with ties.

    Daniels 1944: with A_ij = sign(x_i - x_j) and B_ij likewise, sum AB / sqrt(sum A^2 sum B^2) over pairs is Kendall's
    tau-b, and over the row sums of A and B it is Spearman's rho with average ranks. Values that differ by less than
    1e-12 of the largest are ties.

    Args:
        predicted: (n,) one value per cell.
        measured: (n,) one value per cell.
        kind: ``spearman`` for rho, ``kendall`` for tau-b.

    Returns:
        From -1 to 1; None where one side is the same in every cell, which then has no order.

    Raises:
        ValueError: Another kind.

    Example:
        >>> correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
        0.5
        >>> correlation(np.array([1.0, 2.0, 3.0]), np.array([5.0, 5.0, 5.0])) is None
        True
    """
    if kind not in ("spearman", "kendall"):
        raise ValueError(f"correlation {kind!r}; expected spearman or kendall")
    A, B = _signs(predicted), _signs(measured)
    if kind == "spearman":
        A, B = A.sum(axis=1), B.sum(axis=1)  # 2 (average rank) - n - 1
    squares = float((A**2).sum() * (B**2).sum())
    return float((A * B).sum()) / squares**0.5 if squares else None


def correlation_within(
    predicted: FloatArray, measured: FloatArray, rows: npt.NDArray[np.generic], kind: Kind = "spearman"
) -> float | None:
    """Rank correlation inside each row of a grid, averaged over the rows that have one.

    Args:
        predicted: (n,) one value per cell.
        measured: (n,) one value per cell.
        rows: (n,) which cells belong together; NaN belongs to none.
        kind: As in `correlation`.

    Returns:
        From -1 to 1; None where no row has an order on both sides.

    Example:
        >>> correlation_within(np.array([1.0, 2.0, 9.0, 8.0]), np.array([5.0, 6.0, 1.0, 2.0]), np.array([0, 0, 1, 1]))
        0.0
    """
    found = [correlation(predicted[rows == row], measured[rows == row], kind) for row in np.unique(rows[rows == rows])]
    known = [one for one in found if one is not None]
    return sum(known) / len(known) if known else None


def oracle_regret(accuracy: FloatArray, selected: int) -> float:
    """What the best cell of all, known from the very images that judge, has over the selected cell.

    Even a perfect choice has some: the best of n noisy figures is lucky as well as good.

    Args:
        accuracy: (n,) balanced accuracy on the images that judge, 0 to 1.
        selected: The selected cell.

    Returns:
        A difference of accuracies, at least 0.

    Example:
        >>> oracle_regret(np.array([0.5, 0.75, 0.625]), 2)
        0.125
    """
    return float(accuracy.max() - accuracy[selected])


def search_regret(accuracy: FloatArray, validation_accuracy: FloatArray, selected: int) -> float:
    """What a grid search on validation would have over the selected cell.

    Where several cells are best on validation, the search takes any of them: their mean, so that the images that judge
    settle nothing.

    Args:
        accuracy: (n,) balanced accuracy on the images that judge, 0 to 1.
        validation_accuracy: (n,) the same on validation.
        selected: The selected cell.

    Returns:
        A difference of accuracies; negative where the criterion chose better than the search.

    Example:
        >>> search_regret(np.array([0.5, 0.75, 0.625]), np.array([0.5, 0.6, 0.6]), 1)
        -0.0625
    """
    return float(accuracy[searched(validation_accuracy)].mean() - accuracy[selected])


def searched(validation_accuracy: FloatArray) -> list[int]:
    """Cells that are best on validation, all that tie.

    Args:
        validation_accuracy: (n,) balanced accuracy on validation.

    Returns:
        Their numbers, at least one.

    Example:
        >>> searched(np.array([0.5, 0.75, 0.75]))
        [1, 2]
    """
    best = validation_accuracy.max()
    return np.flatnonzero(validation_accuracy >= best - ROUNDING * abs(best)).tolist()


def gain(accuracy: FloatArray, selected: int, reference: int) -> float:
    """What the selected cell has over a cell that nobody had to select.

    Args:
        accuracy: (n,) balanced accuracy on the images that judge, 0 to 1.
        selected: The selected cell.
        reference: The other cell.

    Returns:
        A difference of accuracies.

    Example:
        >>> gain(np.array([0.5, 0.75, 0.625]), 2, 0)
        0.125
    """
    return float(accuracy[selected] - accuracy[reference])


def differences(predicted: FloatArray, risk: FloatArray, reference: int) -> dict[str, float | None]:
    """Predicted against measured differences of risk, every cell minus the reference cell, in nats per image.

    The criterion is a risk up to a constant, which differences do not have. A right one has both slopes 1 and an error
    that is small beside the spread of the risk.

    Args:
        predicted: (n,) the criterion, nats per image.
        risk: (n,) measured risk, nats per image.
        reference: The cell that all are compared with.

    Returns:
        ``slope`` of measured on predicted differences by least squares with an intercept, which no choice of reference
        moves; ``slope_through_reference``, without one; both None where all predicted differences are zero;
        ``rms_off``, root mean square of predicted minus measured over the n - 1 other cells, and ``rms_measured``,
        that of the measured differences, both None for a single cell.

    Example:
        >>> differences(np.array([1.0, 2.0, 3.0]), np.array([7.0, 7.5, 8.0]), 0)["slope"]
        0.5
    """
    x, y = predicted - predicted[reference], risk - risk[reference]
    if len(x) < 2:
        return dict.fromkeys(("slope", "slope_through_reference", "rms_off", "rms_measured"))
    constant = np.ptp(predicted) <= ROUNDING * np.abs(predicted).max()
    others = len(x) - 1  # the reference differs from itself by nothing, in both
    return {
        "slope": None if constant else _slope(x - x.mean(), y - y.mean()),
        "slope_through_reference": None if constant else _slope(x, y),
        "rms_off": float(np.sqrt(((x - y) ** 2).sum() / others)),
        "rms_measured": float(np.sqrt((y**2).sum() / others)),
    }


def summary(
    cells: Cells,
    predicted: Mapping[int, npt.ArrayLike],
    measured: Mapping[int, Mapping[str, Measured]],
    generator: np.random.Generator,
    *,
    data: str,
    reading: str,
    state: str = "refined",
    split: str = "test",
) -> dict[str, object]:
    """Measure how well one reading predicts one grid, over seeds, ready for JSON.

    Accuracies and their differences are in points, risks and theirs in nats per image. ``gain`` and its two ablations,
    the criterion held to w = 1/2 and held to full sharing, are over full sharing at w = 1/2. Choose among readings
    with ``split="validation"``, where the search is its own judge and the test tables are not read.

    Args:
        cells: The grid; it has the weight 1/2.
        predicted: Of every seed the criterion, (D, W).
        measured: Of every seed what was measured on ``"validation"`` and on ``split``.
        generator: Source of the resampled seeds.
        data: Name of the data set, for the record.
        reading: Name of the reading, for the record.
        state: Whether the networks were measured ``refined`` or ``raw``, for the record.
        split: The images that judge, a key of ``measured``.

    Returns:
        ``data``, ``reading``, ``state``, ``split``, ``seeds``; for every name in :data:`MEASURES` an `Interval`, where
        a grid without depth 0 has none for ``gain_over_nothing_shared``; ``by_seed``, of every seed the same measures,
        the ``selected`` cell and the cells that were best on validation, ``searched``.

    Raises:
        InputError: No seed; predicted and measured seeds that differ; a split that was not measured; tables of the
            wrong shape or with impossible values, named with seed, depth and weight; a grid without the weight 1/2.

    Example:
        >>> grid = Measured(risk=[[3.0, 3.0], [2.0, 1.0]], error=[[0.5, 0.5], [0.25, 0.375]])
        >>> found = summary(Cells((0, 6), (0.3, 0.5)), {0: [[9, 9], [7, 8]]}, {0: {"validation": grid, "test": grid}},
        ...                 np.random.default_rng(0), data="glyphs", reading="general")
        >>> found["spearman"], found["gain"]["mean"], found["by_seed"][0]["selected"]
        ({'mean': 1.0, 'low': None, 'high': None, 'bootstrap': None}, 12.5, {'depth': 6, 'weight': 0.3})
    """
    if not predicted or set(predicted) != set(measured):
        raise InputError(
            f"criteria of seeds {sorted(predicted)}, measurements of seeds {sorted(measured)}",
            expected="the same seeds, at least one",
        )
    seeds = sorted(predicted)
    tables = [_seed(cells, seed, predicted[seed], measured[seed], reading, split) for seed in seeds]
    found = [_measures(cells, of) for of in tables]
    resampled = resample(len(seeds), generator)
    return {
        "data": data,
        "reading": reading,
        "state": state,
        "split": split,
        "seeds": seeds,
        **{
            name: interval([one[name] for one in found], resampled, within)
            for name, within in MEASURES.items()
            if name in found[0]
        },
        "by_seed": [
            {
                "seed": seed,
                "selected": cells.place(cells.smallest(of.K)),
                "searched": [cells.place(cell) for cell in searched(of.validation_accuracy)],
                **one,
            }
            for seed, of, one in zip(seeds, tables, found, strict=True)
        ],
    }


@dataclass(frozen=True)
class _Seed:
    """One seed's values at the distinct cells: the criterion, and what was measured."""

    K: FloatArray
    risk: FloatArray
    error: FloatArray
    validation_error: FloatArray

    @property
    def accuracy(self) -> FloatArray:
        """(n,) in points."""
        return 100 * (1 - self.error)

    @property
    def validation_accuracy(self) -> FloatArray:
        """(n,) in points."""
        return 100 * (1 - self.validation_error)


def _seed(
    cells: Cells, seed: int, predicted: npt.ArrayLike, measured: Mapping[str, Measured], reading: str, split: str
) -> _Seed:
    for name in (split, "validation"):
        if name not in measured:
            raise InputError(f"seed {seed} is not measured on {name!r}", remedy=nearest(name, measured))
    return _Seed(
        K=cells.values(predicted, f"{reading} of seed {seed}"),
        risk=cells.values(measured[split].risk, f"{split} risk of seed {seed}"),
        error=_share(cells, measured[split].error, f"{split} error of seed {seed}"),
        validation_error=_share(cells, measured["validation"].error, f"validation error of seed {seed}"),
    )


def _share(cells: Cells, table: npt.ArrayLike, name: str) -> FloatArray:
    values = cells.values(table, name)
    bad = np.flatnonzero((values < 0) | (values > 1))
    if bad.size:
        depth, weight = cells.place(bad[0]).values()
        where = f"depth {depth}" if weight is None else f"depth {depth}, weight {weight:.4g}"
        raise InputError(
            f"{name} at {where}: {values[bad[0]]:.6g}",
            expected="one minus balanced accuracy, 0 to 1",
        )
    return values


def _measures(cells: Cells, of: _Seed) -> dict[str, float | None]:
    """Everything that :data:`MEASURES` names, but for depth 0 where the grid has none; accuracies in points."""
    accuracy, full = of.accuracy, cells.depths[-1]
    selected, reference = cells.smallest(of.K), cells.at(full, 0.5)
    found: dict[str, float | None] = {
        "spearman": correlation(of.K, of.error, "spearman"),
        "kendall": correlation(of.K, of.error, "kendall"),
        "spearman_risk": correlation(of.K, of.risk, "spearman"),
        "kendall_risk": correlation(of.K, of.risk, "kendall"),
        "spearman_risk_of_weights": correlation_within(of.K, of.risk, cells.depth_of),
        "spearman_risk_of_depths": correlation_within(of.K, of.risk, cells.weight_of),
        "search_regret": search_regret(accuracy, of.validation_accuracy, selected),
        "oracle_regret": oracle_regret(accuracy, selected),
        "gain": gain(accuracy, selected, reference),
        "gain_depth_alone": gain(accuracy, cells.smallest(of.K, weight=0.5), reference),
        "gain_weight_alone": gain(accuracy, cells.smallest(of.K, depth=full), reference),
    }
    if cells.depths[0] == 0:
        found["gain_over_nothing_shared"] = gain(accuracy, selected, cells.at(0))
    return {**found, **differences(of.K, of.risk, reference)}


def _signs(values: FloatArray) -> FloatArray:
    """(n, n) sign of x_i - x_j, 0 for ties."""
    gaps = values[:, None] - values[None, :]
    return np.where(np.abs(gaps) <= ROUNDING * np.abs(values).max(), 0.0, np.sign(gaps))


def _slope(x: FloatArray, y: FloatArray) -> float:
    """Least squares through the origin."""
    return float((x @ y) / (x @ x))
