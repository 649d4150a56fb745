"""What a grid says, read and checked.

Legend: ``S`` seeds, ``D`` depths, ``W`` weights of the head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from forktail.labels import FloatArray
from forktail.report.reading import Count, DamagedError, Name, Number, Text, checked
from forktail.run import Run

FILE = "grid.json"
RiskName = Literal["risk", "risk_uniform"]
State = Literal["refined", "raw"]
Split = Literal["test", "validation"]
STATES: tuple[State, ...] = ("refined", "raw")
SPLITS: tuple[Split, ...] = ("test", "validation")


@dataclass(frozen=True)
class Interval:
    """A measure's mean over seeds with its 95 % interval; None is not known."""

    mean: Number | None
    low: Number | None
    high: Number | None

    @property
    def side(self) -> int | None:
        """1 where the interval lies above 0, -1 where it lies below, 0 where it holds 0; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return int(self.low > 0) - int(self.high < 0)


@dataclass(frozen=True)
class Place:
    """A cell; depth 0 has no weight."""

    depth: Count
    weight: Number | None


@dataclass(frozen=True)
class SeedChoice:
    """What was chosen with one seed: by the reading, and by searching validation, where several may tie."""

    seed: int
    selected: Place
    searched: list[Place]


@dataclass(frozen=True)
class Record:
    """How well one reading predicts, in one state, on one split; ``reason`` stands in place of numbers."""

    reading: Name
    state: State
    split: Split
    risk: RiskName
    reason: Name | None = None
    spearman: Interval | None = None
    kendall: Interval | None = None
    spearman_risk: Interval | None = None
    kendall_risk: Interval | None = None
    spearman_risk_of_weights: Interval | None = None
    spearman_risk_of_depths: Interval | None = None
    search_regret: Interval | None = None
    oracle_regret: Interval | None = None
    gain: Interval | None = None
    gain_depth_alone: Interval | None = None
    gain_weight_alone: Interval | None = None
    gain_over_nothing_shared: Interval | None = None
    slope: Interval | None = None
    by_seed: list[SeedChoice] = field(default_factory=list)

    def of(self, measure: str) -> Interval:
        """Return a measure.

        Args:
            measure: Its name.

        Returns:
            Its mean and interval, all None where the grid does not have it.
        """
        found = getattr(self, measure)
        return found if isinstance(found, Interval) else Interval(None, None, None)


@dataclass(frozen=True)
class Accuracies:
    """Mean accuracy of classes, 0 to 1; None for a group without classes."""

    balanced: Number
    many: Number | None
    medium: Number | None
    few: Number | None


@dataclass(frozen=True)
class Figures:
    """What one network scored on one split; its risk under the training prior and under a uniform one."""

    risk: Number
    risk_uniform: Number
    margin: Accuracies
    posterior: Accuracies


@dataclass(frozen=True)
class Cell:
    """One network, straight after assembly and refined."""

    seed: int
    weight: Number | None
    depth: Count
    raw: dict[Split, Figures]
    refined: dict[Split, Figures]

    def of(self, state: State, split: Split) -> Figures:
        """Return what it scored.

        Args:
            state: Raw or refined.
            split: On which images.

        Returns:
            Its figures.
        """
        return (self.raw if state == "raw" else self.refined)[split]


@dataclass(frozen=True)
class Prediction:
    """What one reading predicts with one seed, for every depth from 0, or why it does not."""

    table: list[list[Number]] | None
    reason: Name | None = None
    damping: Number | None = None


@dataclass(frozen=True)
class Grid:
    """``grid.json``."""

    data: Name
    command: Text
    depths: list[Count]
    weights: list[Number]
    seeds: list[int]
    rule: Literal["margin", "posterior"]
    selects_by: Name
    training_images: Count
    flops: Number
    cells: list[Cell]
    predicted: dict[Name, dict[str, Prediction]]
    measures: list[Record]

    @property
    def num_cells(self) -> int:
        """Distinct cells: nothing shared has no weight."""
        return sum(1 if depth == 0 else len(self.weights) for depth in self.depths)

    @property
    def flat(self) -> int:
        """Column of the weight 1/2, where a cell without a weight is marked."""
        return int(np.abs(np.array(self.weights) - 0.5).argmin())

    @property
    def reference(self) -> tuple[int, int]:
        """Row and column of full sharing at w = 1/2, which nobody has to select."""
        return len(self.depths) - 1, self.flat

    @property
    def entries(self) -> list[tuple[int, int]]:
        """Row and column of each distinct cell."""
        columns = range(len(self.weights))
        return [
            (row, column)
            for row, depth in enumerate(self.depths)
            for column in ([self.flat] if depth == 0 else columns)
        ]

    @property
    def readings(self) -> list[str]:
        """Those that have numbers for every seed."""
        return [name for name in self.predicted if self.record(name).reason is None]

    @property
    def default(self) -> str | None:
        """The reading of which the page speaks first: the one by which `fit` selects; None if none has numbers."""
        known = self.readings
        return self.selects_by if self.selects_by in known else next(iter(known), None)

    @property
    def best_ordering(self) -> str | None:
        """The reading that orders the risk of the refined networks best on validation; None if none has an order."""
        found = {
            name: mean
            for name in self.readings
            if (mean := self.record(name, split="validation").of("spearman_risk").mean) is not None
        }
        return max(found, key=found.__getitem__, default=None)

    def record(self, reading: str, state: State = "refined", split: Split = "test") -> Record:
        """Find how well a reading predicts.

        Args:
            reading: One of the readings.
            state: Raw or refined networks.
            split: The images that judge.

        Returns:
            Its record.
        """
        return next(one for one in self.measures if (one.reading, one.state, one.split) == (reading, state, split))

    def predictions(self, reading: str) -> FloatArray:
        """Return the criterion at the depths that were trained.

        Args:
            reading: One that has numbers.

        Returns:
            (S, D, W) nats per image, up to a constant.
        """
        tables = [self.predicted[reading][str(seed)].table for seed in self.seeds]
        return np.array(tables, dtype=np.float64)[:, self.depths]

    def risk(self, state: State, split: Split = "test", name: RiskName = "risk") -> FloatArray:
        """Return the measured risk.

        Args:
            state: Raw or refined networks.
            split: On which images.
            name: Under which prior.

        Returns:
            (S, D, W) nats per image; depth 0 is the same at every weight.
        """
        return self._measured(lambda cell: getattr(cell.of(state, split), name))

    def accuracy(self, state: State, split: Split = "test", group: str = "balanced") -> FloatArray:
        """Return the measured accuracy under the grid's rule.

        Args:
            state: Raw or refined networks.
            split: On which images.
            group: ``balanced``, ``many``, ``medium`` or ``few``.

        Returns:
            (S, D, W) shares; nan for a group without classes. Depth 0 is the same at every weight.
        """

        def found(cell: Cell) -> float:
            share = getattr(getattr(cell.of(state, split), self.rule), group)
            return np.nan if share is None else share

        return self._measured(found)

    def entry(self, place: Place) -> tuple[int, int]:
        """Say where a cell stands in a table.

        Args:
            place: One of the grid's cells.

        Returns:
            Row and column; of a cell without a weight the column of 1/2.
        """
        return self.depths.index(place.depth), self.flat if place.weight is None else self.weights.index(place.weight)

    def _measured(self, pick: Callable[[Cell], float]) -> FloatArray:
        table = np.full((len(self.seeds), len(self.depths), len(self.weights)), np.nan)
        for cell in self.cells:
            column = slice(None) if cell.weight is None else self.weights.index(cell.weight)
            table[self.seeds.index(cell.seed), self.depths.index(cell.depth), column] = pick(cell)
        return table


def read_grid(place: Run) -> Grid:
    """Read ``grid.json``.

    Args:
        place: The folder of the grid.

    Returns:
        Its content.

    Raises:
        DamagedError: If it does not hold what it should.
    """
    grid = checked(Grid, place, FILE, place.read_json(FILE))
    problem = _wrong_axes(grid) or _wrong_cells(grid) or _wrong_predictions(grid) or _wrong_measures(grid)
    if problem is not None:
        raise DamagedError(place, FILE, problem)
    return grid


def _wrong_axes(grid: Grid) -> str | None:
    for name, values in (("depths", grid.depths), ("weights", grid.weights)):
        if not values or sorted(set(values)) != list(values):
            return f"{name} that do not ascend"
    if not 0 < grid.weights[0] <= grid.weights[-1] < 1 or abs(grid.weights[grid.flat] - 0.5) > 1e-9:
        return "weights without 1/2, or outside 0 to 1"
    if not grid.seeds or len(set(grid.seeds)) != len(grid.seeds):
        return "no seeds, or one twice"
    return None


def _wrong_cells(grid: Grid) -> str | None:
    found = sorted((cell.seed, *_key(cell)) for cell in grid.cells)
    expected = sorted(
        (seed, depth, weight)
        for seed in grid.seeds
        for depth in grid.depths
        for weight in ([-1.0] if depth == 0 else grid.weights)
    )
    if found != expected:
        return "not one cell for each seed, depth and weight"
    if any(set(parts) != set(SPLITS) for cell in grid.cells for parts in (cell.raw, cell.refined)):
        return "a cell that was not measured on validation and test"
    return None


def _wrong_predictions(grid: Grid) -> str | None:
    for name, by_seed in grid.predicted.items():
        if set(by_seed) != {str(seed) for seed in grid.seeds}:
            return f"{name}: not one prediction for each seed"
        for one in by_seed.values():
            if one.table is None and one.reason is None:
                return f"{name}: neither a table nor a reason"
            if one.table is not None and (
                len(one.table) <= grid.depths[-1] or {len(row) for row in one.table} != {len(grid.weights)}
            ):
                return f"{name}: not one prediction for each depth and weight"
    return None


def _wrong_measures(grid: Grid) -> str | None:
    expected = sorted((name, state, split) for name in grid.predicted for state in STATES for split in SPLITS)
    if sorted((one.reading, one.state, one.split) for one in grid.measures) != expected:
        return "not one record of measures for each reading, state and split"
    known = {(depth, weight) for depth in grid.depths for weight in ([-1.0] if depth == 0 else grid.weights)}
    for one in grid.measures:
        whole = all(prediction.table is not None for prediction in grid.predicted[one.reading].values())
        if whole == (one.reason is not None):
            return f"{one.reading}: measures without a table, or a reason beside one"
        if whole and [choice.seed for choice in one.by_seed] != sorted(grid.seeds):
            return f"{one.reading}: not one choice for each seed"
        if any(_key(at) not in known for choice in one.by_seed for at in (choice.selected, *choice.searched)):
            return f"{one.reading}: a chosen cell that is not in the grid"
    return None


def _key(cell: Cell | Place) -> tuple[int, float]:
    """Depth and weight, in an order even where there is no weight."""
    return cell.depth, -1.0 if cell.weight is None else cell.weight
