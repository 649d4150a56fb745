"""What a run directory says, read and checked."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from forktail.errors import InputError
from forktail.labels import ClassCounts, FloatArray, IntArray
from forktail.report.names import visible_text
from forktail.report.reading import Count, DamagedError, Name, Number, T, Text, checked, read_lines, read_text
from forktail.run import Run

GROUPS = ("many", "medium", "few")


@dataclass(frozen=True)
class Accuracy:
    """Shares of test images that are right; None where there are none. See `forktail.metrics`."""

    balanced: Number | None
    micro: Number | None
    many: Number | None
    medium: Number | None
    few: Number | None
    head: Number | None
    tail: Number | None
    worst: Number | None


@dataclass(frozen=True)
class Groups:
    """How the shot groups are defined, and how many classes each has."""

    rule: Name
    edges: dict[Name, Name]
    classes: dict[str, Count]

    def edge(self, group: str) -> str:
        """Write how many training images n a group asks for.

        Args:
            group: ``many``, ``medium`` or ``few``.

        Returns:
            Such as ``20 ≤ n ≤ 100``.
        """
        return self.edges[group].replace("<=", "≤").replace(">=", "≥")


@dataclass(frozen=True)
class ConfidenceBin:
    """One row of the reliability diagram."""

    low: Number
    high: Number
    images: Count
    confidence: Number | None
    accuracy: Number | None


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were taken for another; the positions of some in the test part, and names or texts."""

    true: Count
    predicted: Count
    images: Count
    share: Number
    positions: list[Count]
    names: list[Name] | None = None
    texts: list[Name] | None = None


@dataclass(frozen=True)
class Metrics:
    """``metrics.json`` or ``validation.json``."""

    accuracy: Accuracy
    groups: Groups
    per_class: list[Number | None]
    macro_f1: Number
    nll: Number
    ece: Number
    classes: list[Name]
    train_images: list[Count]
    test_images: list[Count]
    prior: Name
    evaluated_on: Name
    risk: Number | None = None
    tasks: list[list[Count]] | None = None
    reliability: list[ConfidenceBin] = field(default_factory=list)
    confused: list[Confusion] = field(default_factory=list)

    @property
    def counts(self) -> ClassCounts:
        """Training images of each class."""
        return ClassCounts(np.array(self.train_images))

    @property
    def shots(self) -> dict[str, IntArray]:
        """Classes of many, medium and few."""
        return self.counts.shots(self.groups.rule).groups


@dataclass(frozen=True)
class Data:
    """What was trained on."""

    name: Name
    train: Name
    images: Count
    notes: list[Name] = field(default_factory=list)


@dataclass(frozen=True)
class Environment:
    """``env.json``."""

    forktail: Name
    python: Name
    torch: Name
    numpy: Name
    platform: Name
    device: Name
    threads: Count
    data: Data
    command: Text | None = None


@dataclass(frozen=True)
class Cost:
    """``cost.json``: operations, bytes and parameters."""

    training_flops: Number
    training_memory: Number
    inference_flops: Number
    parameters: Count


@dataclass(frozen=True)
class Stage:
    """One row of ``stages.json``; an analysis takes no steps."""

    stage: Name
    flops: Number
    steps: Count | None = None
    steps_per_epoch: Count | None = None
    images_per_step: Count | None = None
    trained_parameters: Count | None = None
    memory: Number | None = None


@dataclass(frozen=True)
class Clock:
    """One row of ``timing.jsonl``."""

    stage: Name
    seconds: Number
    found: bool


@dataclass(frozen=True)
class Epoch:
    """One row of ``log.jsonl``."""

    stage: Name
    epoch: Count
    step: Count
    loss: Number
    lr: Number


@dataclass(frozen=True)
class Term:
    """One row of ``criterion.csv``, in nats per image; standard errors where groups of images were measured."""

    depth: Count
    weight: Number
    shared_variance: Number
    shared_bias: Number
    own_variance: Number
    total: Number
    shared_variance_error: Number | None = None
    shared_bias_error: Number | None = None
    own_variance_error: Number | None = None
    total_error: Number | None = None


@dataclass(frozen=True)
class Unit:
    """What was measured on one layer at the Stage-1 solutions."""

    name: Name
    parameters: Count
    curvature: tuple[Number, Number]
    scores: tuple[Number, Number]
    distance: Number | None
    mismatch: Number | None


@dataclass(frozen=True)
class CriterionFacts:
    """``criterion.json``."""

    reading: Name
    debiased: bool
    damping: Number
    evaluation_prior: Name
    images: Count
    mean_gradient_norms: tuple[Number, Number]
    flat_coordinates: Count
    fisher: Name = "empirical"
    fisher_at: Name = "stage1"
    groups: list[Count] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """A depth, the head's weight, and the criterion there."""

    depth: Count
    weight: Number
    value: Number


@dataclass(frozen=True)
class Choice:
    """``selection.json``."""

    depth: Count
    weight: Number
    value: Number
    reading: Name
    runner_up: Cell | None
    flatness: Number
    alike: list[tuple[Count, Number]] = field(default_factory=list)
    not_distinguishable: list[tuple[Count, Number]] | None = None
    sentence: Text | None = None

    @property
    def equals(self) -> list[tuple[int, float]]:
        """Cells that are as good as the chosen one, as far as is known, the chosen one among them.

        By their standard errors where there are some, else within 1 % of the table's range.
        """
        if self.not_distinguishable is None:
            return self.alike
        return [(self.depth, self.weight), *self.not_distinguishable]

    @property
    def how_sure(self) -> str:
        """What the sentence adds to the choice; empty where there is no other cell or no uncertainty."""
        return (self.sentence or "").partition("; ")[2]


@dataclass(frozen=True)
class Criterion:
    """The table over depth and weight, what it rests on, and the choice.

    Args:
        weights: (W,) ascending weights of the head.
        terms: For each depth from 0, one term per weight.
        facts: How it was measured.
        choice: The selected cell.
    """

    weights: list[float]
    terms: list[list[Term]]
    facts: CriterionFacts
    choice: Choice

    @property
    def total(self) -> FloatArray:
        """(depths, W) the criterion."""
        return np.array([[term.total for term in row] for row in self.terms])

    @property
    def num_units(self) -> int:
        """L, the units after the stem."""
        return len(self.terms) - 1

    def column(self, weight: float) -> int:
        """Find a weight.

        Args:
            weight: One of the table's.

        Returns:
            Its column.
        """
        return int(np.argmin(np.abs(np.array(self.weights) - weight)))


@dataclass(frozen=True)
class MethodSettings:
    """What the report needs of ``[method]``."""

    name: Name
    depth: Count | None = None
    weight: Number | None = None


@dataclass(frozen=True)
class Settings:
    """What the report needs of ``recipe.toml``."""

    method: MethodSettings
    seed: int = 0


@dataclass(frozen=True)
class RunContent:
    """All that a report says, but for the pictures.

    Args:
        recipe: Text of ``recipe.toml``.
        settings: The same, parsed.
        environment: ``env.json``.
        metrics: ``metrics.json``.
        validation: ``validation.json`` or None.
        cost: ``cost.json`` or None.
        stages: ``stages.json``, empty if it is not there.
        clocks: ``timing.jsonl``, empty if it is not there.
        epochs: ``log.jsonl``, empty if it is not there.
        criterion: The selection or None.
    """

    recipe: str
    settings: Settings
    environment: Environment
    metrics: Metrics
    validation: Metrics | None
    cost: Cost | None
    stages: list[Stage]
    clocks: list[Clock]
    epochs: list[Epoch]
    criterion: Criterion | None

    @property
    def task_names(self) -> list[str]:
        """Name of each task, empty if the tasks are not known."""
        number = len(self.metrics.tasks or [])
        return ["head", *(f"task {index}" for index in range(2, number)), "tail"][:number]


def read_run(run: Run) -> RunContent:
    """Read all of a run that a report shows.

    Args:
        run: A finished run.

    Returns:
        Its content; what a method does not write is None or empty.

    Raises:
        DamagedError: If a file does not hold what it should.
    """
    recipe = read_text(run, "recipe.toml")
    try:
        table = tomllib.loads(recipe)
    except tomllib.TOMLDecodeError as error:
        raise DamagedError(run, "recipe.toml", str(error)) from None
    validated = (run.path / "validation.json").is_file()
    return RunContent(
        recipe=visible_text(recipe),
        settings=checked(Settings, run, "recipe.toml", table),
        environment=checked(Environment, run, "env.json", run.read_json("env.json")),
        metrics=_read_metrics(run, "metrics.json"),
        validation=_read_metrics(run, "validation.json") if validated else None,
        cost=_optional(Cost, run, "cost.json"),
        stages=_optional(list[Stage], run, "stages.json") or [],
        clocks=read_lines(Clock, run, "timing.jsonl"),
        epochs=read_lines(Epoch, run, "log.jsonl"),
        criterion=_read_criterion(run) if (run.path / "selection.json").is_file() else None,
    )


def _optional(kind: type[T], run: Run, name: str) -> T | None:
    return checked(kind, run, name, run.read_json(name)) if (run.path / name).is_file() else None


def _read_metrics(run: Run, name: str) -> Metrics:
    metrics = checked(Metrics, run, name, run.read_json(name))
    number = len(metrics.classes)
    if not number == len(metrics.per_class) == len(metrics.train_images) == len(metrics.test_images):
        raise DamagedError(run, name, "not one entry for each class")
    named = [c for task in metrics.tasks or [] for c in task]
    named += [c for pair in metrics.confused for c in (pair.true, pair.predicted)]
    if named and max(named) >= number:
        raise DamagedError(run, name, f"class {max(named)}, but there are {number} classes")
    if metrics.tasks and sorted(c for task in metrics.tasks for c in task) != list(range(number)):
        raise DamagedError(run, name, "tasks that do not hold every class once")
    if set(GROUPS) - set(metrics.groups.edges):
        raise DamagedError(run, name, "groups without the edges of many, medium and few")
    try:
        metrics.shots  # noqa: B018 # raises where the counts or the rule are none
    except InputError as error:
        raise DamagedError(run, name, error.found) from None
    return metrics


def _read_criterion(run: Run) -> Criterion:
    rows = list(csv.DictReader(read_text(run, "criterion.csv").splitlines()))
    terms = checked(list[Term], run, "criterion.csv", rows)
    depths = sorted({term.depth for term in terms})
    weights = sorted({term.weight for term in terms})
    table = {(term.depth, term.weight): term for term in terms}
    if not depths or depths != list(range(len(depths))) or not len(table) == len(terms) == len(depths) * len(weights):
        raise DamagedError(run, "criterion.csv", "not one row for each depth and weight")
    criterion = Criterion(
        weights=weights,
        terms=[[table[depth, weight] for weight in weights] for depth in depths],
        facts=checked(CriterionFacts, run, "criterion.json", run.read_json("criterion.json")),
        choice=checked(Choice, run, "selection.json", run.read_json("selection.json")),
    )
    choice = criterion.choice
    _check_cells(run, criterion, [(choice.depth, choice.weight), *choice.alike, *choice.equals])
    return criterion


def _check_cells(run: Run, criterion: Criterion, cells: Iterable[tuple[int, float]]) -> None:
    for depth, weight in cells:
        known = criterion.weights[criterion.column(weight)]
        if depth > criterion.num_units or abs(known - weight) > 1e-9:
            raise DamagedError(run, "selection.json", f"depth {depth}, weight {weight} is not in criterion.csv")
