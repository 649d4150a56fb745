"""The best cell of a criterion table, and how sure one can be of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.theory.criterion import CriterionTable, plain_weight
from forktail.theory.jackknife import Uncertainty
from forktail.theory.moments import FloatArray


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Args:
        depth: s.
        weights: One weight for each of the K tasks.
        value: K(s, w), nats per image.

    Example:
        >>> Cell(3, (0.4, 0.6), 0.02).to_json()
        {'depth': 3, 'weight': 0.4, 'value': 0.02}
    """

    depth: int
    weights: tuple[float, ...]
    value: float

    @property
    def weight(self) -> float | tuple[float, ...]:
        """The first task's weight for two tasks, all weights otherwise."""
        return plain_weight(self.weights)

    def to_json(self) -> dict[str, object]:
        """Depth, weight and value."""
        weight = list(self.weight) if isinstance(self.weight, tuple) else self.weight
        return {"depth": self.depth, "weight": weight, "value": self.value}


@dataclass(frozen=True)
class Selection:
    """The selected cell and what stands against it.

    Args:
        best: The cell with the smallest value.
        runner_up: The best cell at another depth; None if only one depth was allowed.
        reading: The table's reading.
        alike: Allowed cells whose value lies within 1 % of the range (largest minus smallest allowed value) above the
            smallest, the selected cell among them.
        flatness: Their share of the allowed cells. Near 1, the choice hardly matters.
        not_distinguishable: Other allowed cells that the images do not show to be worse: the 95 % interval of their
            value minus the selected cell's does not lie above 0. None where no uncertainty was given.

    Example:
        >>> best = Cell(3, (0.4, 0.6), 0.02)
        >>> selection = Selection(best, Cell(2, (0.5, 0.5), 0.03), "general", (best,), 0.1)
        >>> selection.depth, selection.weight
        (3, 0.4)
    """

    best: Cell
    runner_up: Cell | None
    reading: str
    alike: tuple[Cell, ...]
    flatness: float
    not_distinguishable: tuple[Cell, ...] | None = None

    @property
    def depth(self) -> int:
        """Selected depth s."""
        return self.best.depth

    @property
    def weights(self) -> tuple[float, ...]:
        """Selected weights, one for each task."""
        return self.best.weights

    @property
    def weight(self) -> float | tuple[float, ...]:
        """The first task's weight for two tasks, all weights otherwise."""
        return self.best.weight

    @property
    def value(self) -> float:
        """The criterion at the selected cell."""
        return self.best.value

    @property
    def sentence(self) -> str:
        """The choice and how sure it is, in words."""
        choice = f"depth {self.depth}, weight {_in_words(self.weight)}"
        # One cell was allowed, or depth 0 alone, which is the same network at every weight.
        pinned = self.runner_up is None and self.flatness == 1 and (len(self.alike) == 1 or self.depth == 0)
        if self.not_distinguishable is None or pinned:
            return choice
        if not self.not_distinguishable:
            return f"{choice}; every other cell is shown to be worse"
        cells = (self.best, *self.not_distinguishable)
        depths = f"depth{'s' * (len({cell.depth for cell in cells}) > 1)} {_runs({cell.depth for cell in cells})}"
        weights = {cell.weights for cell in cells if cell.depth > 0}  # where nothing is shared there is none
        if len(self.weights) == 2 and weights:
            low, high = (_in_words(chosen[0]) for chosen in (min(weights), max(weights)))
            depths += f", weight {low}" if low == high else f", weights {low} to {high}"
        elif weights:
            depths += f", {len(weights)} weight{'s' * (len(weights) > 1)}"
        return f"{choice}; not distinguishable from {depths}"

    def to_json(self) -> dict[str, object]:
        """What ``selection.json`` holds: depth, weight, value, reading, runner_up, alike, flatness.

        Where an uncertainty was given, also not_distinguishable and the sentence.
        """
        others = self.not_distinguishable
        known = {} if others is None else {"not_distinguishable": _places(others), "sentence": self.sentence}
        return {
            **self.best.to_json(),
            "reading": self.reading,
            "runner_up": None if self.runner_up is None else self.runner_up.to_json(),
            "alike": _places(self.alike),
            "flatness": self.flatness,
            **known,
        }


def select(
    table: CriterionTable,
    *,
    depths: Sequence[int] | None = None,
    weights: npt.ArrayLike | None = None,
    uncertainty: Uncertainty | None = None,
) -> Selection:
    """Find the cell with the smallest criterion.

    Cells within 1e-12 (relative) of the smallest value are ties: first the weights nearest to equal ones win, then the
    deeper cell. So a network that shares nothing, to which weights mean nothing, is reported at w = 1/2.

    Args:
        table: The criterion.
        depths: Allowed depths; None allows all. One depth pins it.
        weights: Allowed weights: for two tasks numbers, the first task's weight; else (w, K). None allows all.
        uncertainty: Of this table, to say which cells are not shown to be worse than the selected one.

    Returns:
        The selection.

    Raises:
        InputError: A depth or a weight that the table does not have.

    Example:
        >>> table = CriterionTable(np.array([[0.4, 0.6], [0.5, 0.5]]), np.array([[0.0, 0.0], [1.0, 2.0]]),
        ...                        np.zeros((2, 2)), np.array([[3.0, 3.0], [1.0, 1.0]]),
        ...                        reading="general", debiased=True, damping=0.0, flat=0)
        >>> select(table).to_json()                                          # doctest: +NORMALIZE_WHITESPACE
        {'depth': 1, 'weight': 0.4, 'value': 2.0, 'reading': 'general',
         'runner_up': {'depth': 0, 'weight': 0.5, 'value': 3.0},
         'alike': [[1, 0.4]], 'flatness': 0.25}
    """
    rows = _allowed_depths(table, depths)
    columns = _allowed_columns(table, weights)
    allowed = table.total[np.ix_(rows, columns)]
    best = _best_cell(table, rows, columns)
    others = [depth for depth in rows if depth != best.depth]
    smallest = allowed.min()
    near = np.argwhere(allowed <= smallest + 0.01 * (allowed.max() - smallest))
    alike = tuple(_cell(table, rows[row], columns[column]) for row, column in near)
    unsure = None if uncertainty is None else _not_shown_worse(uncertainty, table, best, rows, columns)
    return Selection(
        best=best,
        runner_up=_best_cell(table, others, columns) if others else None,
        reading=table.reading,
        alike=alike,
        flatness=len(alike) / allowed.size,
        not_distinguishable=unsure,
    )


def _best_cell(table: CriterionTable, rows: list[int], columns: list[int]) -> Cell:
    total = table.total[np.ix_(rows, columns)]
    smallest = total.min()
    imbalance = np.linalg.norm(table.weights[columns] - 1 / table.weights.shape[1], axis=1).round(
        9
    )  # .45 ties with .55
    tied = np.argwhere(total <= smallest + 1e-12 * abs(smallest))
    row, column = min(tied.tolist(), key=lambda cell: (imbalance[cell[1]], -rows[cell[0]], cell[1]))
    return _cell(table, rows[row], columns[column])


def _not_shown_worse(
    uncertainty: Uncertainty, table: CriterionTable, best: Cell, rows: list[int], columns: list[int]
) -> tuple[Cell, ...]:
    column = int(np.flatnonzero((table.weights == best.weights).all(axis=1))[0])
    lower, _ = uncertainty.difference(best.depth, column).interval()
    open_cells = lower <= 0
    open_cells[best.depth, column] = False
    if best.depth == 0:
        open_cells[0] = False  # the same network at every weight
    return tuple(
        _cell(table, rows[row], columns[other]) for row, other in np.argwhere(open_cells[np.ix_(rows, columns)])
    )


def _places(cells: Sequence[Cell]) -> list[list[object]]:
    return [[cell.depth, cell.to_json()["weight"]] for cell in cells]


def _in_words(weight: float | tuple[float, ...]) -> str:
    return f"{weight:.4g}" if isinstance(weight, float) else "(" + ", ".join(f"{one:.4g}" for one in weight) + ")"


def _runs(numbers: set[int]) -> str:
    """Whole numbers as people list them: ``0, 5 to 8``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in runs)


def _cell(table: CriterionTable, row: int, column: int) -> Cell:
    value = table.shared_variance[row, column] + table.shared_bias[row, column] + table.own_variance[row, column]
    return Cell(int(row), tuple(table.weights[column].tolist()), float(value))


def _allowed_depths(table: CriterionTable, depths: Sequence[int] | None) -> list[int]:
    known = list(table.depths)
    if depths is None:
        return known
    wanted = sorted(set(depths))
    if not wanted or not set(wanted) <= set(known):
        raise InputError(f"depths {wanted}", expected=f"some of 0 to {known[-1]}, as the table has")
    return wanted


def _allowed_columns(table: CriterionTable, weights: npt.ArrayLike | None) -> list[int]:
    if weights is None:
        return list(range(len(table.weights)))
    columns: set[int] = set()
    for wanted in _as_rows(weights, table.weights.shape[1]):
        found = np.flatnonzero(np.abs(table.weights - wanted).max(axis=1) <= 1e-9)
        if not found.size:
            raise InputError(
                f"weights {wanted.tolist()}",
                expected="weights of the table",
                remedy=f"its {len(table.weights)} candidates run from {table.weights[0].tolist()} to "
                f"{table.weights[-1].tolist()}",
            )
        columns.update(found.tolist())
    return sorted(columns)


def _as_rows(weights: npt.ArrayLike, num_tasks: int) -> FloatArray:
    given = np.asarray(weights, dtype=np.float64)
    if num_tasks == 2 and given.ndim == 1:
        given = np.stack([given, 1 - given], axis=1)
    if given.ndim != 2 or given.shape[1] != num_tasks or not len(given):
        raise InputError(f"weights of shape {given.shape}", expected=f"(at least 1, {num_tasks} tasks)")
    return given
