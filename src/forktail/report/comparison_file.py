"""What a comparison says, read and checked."""

from __future__ import annotations

from dataclasses import dataclass, field

from forktail.report.reading import Count, DamagedError, Name, Number, Text, checked
from forktail.report.run_files import Groups
from forktail.run import Run

ACCURACIES = ("balanced", "many", "medium", "few", "head", "tail", "worst", "micro")


@dataclass(frozen=True)
class Difference:
    """This method minus the reference, paired over seeds, with its 95 % interval; None is not known."""

    mean: Number | None
    low: Number | None
    high: Number | None

    @property
    def distinguishable(self) -> bool | None:
        """Whether 0 lies outside the interval; None without an interval."""
        return None if self.low is None or self.high is None else self.low > 0 or self.high < 0


@dataclass(frozen=True)
class ChosenCell:
    """What a method chose with one seed."""

    seed: int
    depth: Count
    weight: Number


@dataclass(frozen=True)
class Row:
    """One method, over all seeds."""

    label: Name
    method: Name
    summary: Name
    source: Name
    runs: list[str]
    mean: dict[str, Number | None]
    standard_error: dict[str, Number | None]
    difference: dict[str, Difference] | None
    per_seed: list[dict[str, Number | None]]
    selection: list[ChosenCell] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A run that could not be finished."""

    label: Name
    seed: int
    reason: Name


@dataclass(frozen=True)
class Comparison:
    """``comparison.json``: methods in ranked order."""

    data: Name
    command: Text
    budget: Name
    budget_text: Name
    seeds: list[int]
    ranking: Name
    reference: Name | None
    groups: Groups
    methods: list[Row]
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def num_seeds(self) -> int:
        """How many seeds each method was trained with."""
        return len(self.seeds)


def read_comparison(place: Run) -> Comparison:
    """Read ``comparison.json``.

    Args:
        place: The folder of the comparison.

    Returns:
        Its content.

    Raises:
        DamagedError: If it does not hold what it should.
    """
    name = "comparison.json"
    comparison = checked(Comparison, place, name, place.read_json(name))
    if not comparison.methods:
        raise DamagedError(place, name, "no method")
    for row in comparison.methods:
        if len(row.per_seed) != len(row.runs) or any(record.get("seed") is None for record in row.per_seed):
            raise DamagedError(place, name, f"{row.label}: not one run and one seed for each record")
    return comparison
