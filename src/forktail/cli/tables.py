"""What the command prints: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from forktail.errors import InputError, nearest, one_line
from forktail.files import read_json
from forktail.predictor import Prediction, Prior
from forktail.run import Run, as_fit_wrote_it

NAMED_PRIORS = ("uniform", "train")
GROUPS = ("balanced", "many", "medium", "few", "head", "tail", "worst", "micro")


def console() -> Console:
    """Return where tables go; off a terminal nothing is cut to its width."""
    out = Console(emoji=False)
    return out if out.is_terminal else Console(emoji=False, width=10_000)


def inert(name: str) -> Text:
    """Show a name as it is: no markup, no line break, nothing that a terminal would obey."""
    return Text(one_line(name))


def inert_json(content: object) -> str:
    """Write JSON that people can read and a terminal does not obey: what is not printable is escaped.

    Args:
        content: Anything that JSON can say.

    Returns:
        JSON text.

    Example:
        >>> print(inert_json("é \u202e"))
        "é \u202e"
    """
    text = json.dumps(content, indent=1, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


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
    for shown in (metrics_table([(label, metrics)]), *map(inert, _metrics_lines(metrics))):
        out.print(shown)


def _metrics_lines(metrics: dict[str, Any]) -> list[str]:
    groups = metrics["groups"]
    counts = ", ".join(f"{name} {groups['classes'][name]}" for name in ("many", "medium", "few"))
    edges = "; ".join(f"{name}: {text}" for name, text in groups["edges"].items())
    tested = sum(n > 0 for n in metrics["test_images"])
    return [
        f"classes: {counts} ({edges}); head and tail are the two tasks",
        f"measured on {sum(metrics['test_images'])} pictures of {tested} classes ({metrics['evaluated_on']}) under the"
        f" prior: {metrics['prior']}; accuracies and ece in points, nll and risk in nats",
        *metrics.get("notes", []),
    ]


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
    lines: list[str] = []
    if (run.path / "selection.json").is_file():
        with as_fit_wrote_it(run.path / "selection.json"):
            lines = _selection_lines(run.selection)
    with as_fit_wrote_it(run.path / "metrics.json"):
        table, measured = metrics_table([("accuracy", run.metrics)]), _metrics_lines(run.metrics)
    out = console()
    for shown in (*map(inert, lines), table, *map(inert, measured), inert(f"run: {run.path}")):
        out.print(shown)


def _selection_lines(chosen: dict[str, Any]) -> list[str]:
    lines = [
        f"selected: depth {chosen['depth']}, weight {chosen['weight']:g} by the {chosen['reading']} reading "
        f"({chosen['value']:.4g} nats; next depth {_runner_up(chosen['runner_up'])})"
    ]
    if "sentence" in chosen:
        return [*lines, *chosen["sentence"].split("; ")[1:]]
    alike = [weight for depth, weight in chosen["alike"] if depth == chosen["depth"]]
    if len(alike) > 1:
        lines += [f"the weight hardly matters to it: {min(alike):g} to {max(alike):g} are within 1 % of its range"]
    return lines


def _runner_up(cell: dict[str, Any] | None) -> str:
    return "none" if cell is None else f"{cell['depth']}, weight {cell['weight']:g}, {cell['value']:.4g}"


def print_predictions(predictions: Sequence[Prediction], form: str) -> None:
    """Print predictions: as a table or JSON with all that is not printable escaped; as CSV exactly, for programs.

    Args:
        predictions: What was said of each picture.
        form: ``table``, ``json`` or ``csv``.
    """
    if form == "json":
        print(inert_json([dataclasses.asdict(p) for p in predictions]))  # noqa: T201
        return
    rows = [
        (p.picture, rank, name, probability)
        for p in predictions
        for rank, (name, probability) in enumerate(zip(p.classes, p.probabilities, strict=True), start=1)
    ]
    if form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(("picture", "rank", "class", "probability"))
        shown = one_line if sys.stdout.isatty() else str
        writer.writerows((shown(picture), rank, shown(name), value) for picture, rank, name, value in rows)
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
    if text is None or text in NAMED_PRIORS:
        return text  # type: ignore[return-value] # one of the two literals, or None
    expected = '"uniform", "train" or a JSON file with a list of one number per class'
    if not os.path.exists(text):
        raise InputError(f'--prior "{text}": no such file', expected=expected, remedy=nearest(text, NAMED_PRIORS))
    numbers = read_json(Path(text), expected=expected, remedy="write it like [0.5, 0.3, 0.2]")
    if not isinstance(numbers, list) or not all(type(n) in (int, float) for n in numbers):
        raise InputError(f"{text}: no list of numbers", expected=expected, remedy="write it like [0.5, 0.3, 0.2]")
    return numbers
