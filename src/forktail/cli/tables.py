"""What the command prints: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from forktail.cli import one_line
from forktail.errors import InputError
from forktail.predictor import Prediction, Prior
from forktail.run import Run

GROUPS = ("balanced", "many", "medium", "few", "head", "tail", "worst", "micro")


def console() -> Console:
    """Return where tables go; off a terminal nothing is cut to its width."""
    out = Console(emoji=False)
    return out if out.is_terminal else Console(emoji=False, width=10_000)


def inert(name: str) -> Text:
    """Show a name as it is: no markup, no line break, nothing that a terminal would obey."""
    return Text(one_line(name))


def percent(value: float | None) -> str:
    """Write an accuracy in points, a group without classes as n/a."""
    return "n/a" if value is None else f"{100 * value:.1f}"


def number(value: float | None) -> str:
    """Write a quantity with three decimals, a missing one as n/a."""
    return "n/a" if value is None else f"{value:.3f}"


def metrics_table(rows: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    """Lay out metrics, one row per model.

    Args:
        rows: Label and content of ``metrics.json``.

    Returns:
        A table; accuracies in points, nll and risk in nats.
    """
    table = Table("", *GROUPS, "nll", "risk", "ece", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for label, metrics in rows:
        accuracy = (percent(metrics["accuracy"][group]) for group in GROUPS)
        table.add_row(inert(label), *accuracy, number(metrics["nll"]), number(metrics["risk"]), percent(metrics["ece"]))
    return table


def print_metrics(metrics: dict[str, Any], label: str = "accuracy") -> None:
    """Print one model's metrics and what the shot groups are.

    Args:
        metrics: Content of ``metrics.json``.
        label: Name of the row.
    """
    out = console()
    out.print(metrics_table([(label, metrics)]))
    groups = metrics["groups"]
    counts = ", ".join(f"{name} {groups['classes'][name]}" for name in ("many", "medium", "few"))
    edges = "; ".join(f"{name}: {text}" for name, text in groups["edges"].items())
    tested = sum(n > 0 for n in metrics["test_images"])
    lines = [
        f"classes: {counts} ({edges}); head and tail are the two tasks",
        f"measured on {sum(metrics['test_images'])} pictures of {tested} classes ({metrics['evaluated_on']}) under the"
        f" prior: {metrics['prior']}; accuracies and ece in points, nll and risk in nats",
    ]
    for line in lines:
        out.print(line, markup=False, highlight=False)


def print_classes(metrics: dict[str, Any]) -> None:
    """Print every class, the most frequent first.

    Args:
        metrics: What `forktail.evaluation.evaluate` returned.
    """
    table = Table("class", "training", "test", "accuracy", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    rows = zip(metrics["classes"], metrics["train_images"], metrics["test_images"], metrics["per_class"], strict=True)
    for name, trained, tested, accuracy in sorted(rows, key=lambda row: -row[1]):
        table.add_row(inert(name), str(trained), str(tested), percent(accuracy))
    console().print(table)


def print_run(run: Run) -> None:
    """Print a finished run: the selection where there is one, then the metrics.

    Args:
        run: The run.
    """
    out = console()
    if (run.path / "selection.json").is_file():
        chosen = run.selection
        out.print(
            f"selected: depth {chosen['depth']}, weight {chosen['weight']:g} by the {chosen['reading']} reading "
            f"({chosen['value']:.4g} nats; next depth {_runner_up(chosen['runner_up'])})",
            markup=False,
            highlight=False,
        )
        alike = weights_alike(run)
        if len(alike) > 1:
            out.print(
                f"the weight hardly matters to it: {min(alike):g} to {max(alike):g} are within 1 % of its range",
                highlight=False,
            )
    print_metrics(run.metrics)
    out.print(f"run: {run.path}", markup=False, highlight=False)


def weights_alike(run: Run) -> list[float]:
    """List the weights that the criterion cannot tell from the selected one at the selected depth.

    Args:
        run: A run with a criterion.

    Returns:
        Weights whose criterion is within 1 % of the table's range of the selected cell's.
    """
    with (run.path / "criterion.csv").open(encoding="utf-8", newline="") as lines:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]
    totals = [row["total"] for row in rows]
    limit = run.selection["value"] + 0.01 * (max(totals) - min(totals))
    return [row["weight"] for row in rows if row["depth"] == run.selection["depth"] and row["total"] <= limit]


def _runner_up(cell: dict[str, Any] | None) -> str:
    return "none" if cell is None else f"{cell['depth']}, weight {cell['weight']:g}, {cell['value']:.4g}"


def print_predictions(predictions: Sequence[Prediction], form: str) -> None:
    """Print predictions.

    Args:
        predictions: What was said of each picture.
        form: ``table``, ``json`` or ``csv``.
    """
    if form == "json":
        print(json.dumps([dataclasses.asdict(p) for p in predictions], indent=1, ensure_ascii=False))  # noqa: T201
        return
    rows = [
        (p.picture, rank, name, probability)
        for p in predictions
        for rank, (name, probability) in enumerate(zip(p.classes, p.probabilities, strict=True), start=1)
    ]
    if form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(("picture", "rank", "class", "probability"))
        writer.writerows(rows)
        return
    table = Table("picture", "rank", "class", "probability", box=None, pad_edge=False)
    for picture, rank, name, probability in rows:
        table.add_row(inert(picture) if rank == 1 else "", str(rank), inert(name), f"{probability:.3f}")
    console().print(table)


def read_prior(text: str | None) -> Prior | None:
    """Read the value of ``--prior``.

    Args:
        text: ``uniform``, ``train``, or a JSON file with one number per class in class order.

    Returns:
        The prior, or None for the method's own.

    Raises:
        InputError: If it is none of these.
    """
    if text is None or text == "uniform" or text == "train":
        return text  # type: ignore[return-value] # one of the two literals, or None
    try:
        numbers = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f'--prior "{text}"', expected='"uniform", "train" or a JSON file of numbers') from None
    if not isinstance(numbers, list) or not all(isinstance(n, int | float) for n in numbers):
        raise InputError(f"{text}: {type(numbers).__name__}", expected="a JSON list with one number per class")
    return numbers
