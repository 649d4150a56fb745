"""From finished runs to one table: what each method reached, what it cost, and who stands first."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forktail.comparing.contestant import Contestant
from forktail.comparing.statistics import mean, paired_difference, standard_error
from forktail.methods import find_method
from forktail.report.reading import Number, checked, read_lines
from forktail.report.run_files import Accuracy, Choice, Clock, Cost
from forktail.run import Run

Record = dict[str, Any]

ACCURACIES = ("balanced", "many", "medium", "few", "head", "tail", "worst", "micro")
QUALITIES = (*ACCURACIES, "nll", "ece")
COSTS = ("training_flops", "inference_flops", "parameters", "training_memory", "seconds")
OURS = "osdtw"  # everything else is a baseline


@dataclass(frozen=True)
class Quality:
    """What a comparison takes from ``metrics.json``."""

    accuracy: Accuracy
    per_class: list[Number | None]
    nll: Number
    ece: Number


def read_run(run: Run, seed: int) -> Record:
    """Read what a run reached and what it cost.

    Args:
        run: A finished run.
        seed: Its seed.

    Returns:
        ``seed`` and one value per quality and cost.
    """
    quality = checked(Quality, run, "metrics.json", run.metrics)
    cost = checked(Cost, run, "cost.json", run.read_json("cost.json"))
    return {
        "seed": seed,
        **dataclasses.asdict(quality.accuracy),
        "nll": quality.nll,
        "ece": quality.ece,
        **dataclasses.asdict(cost),
        # Also of stages that another run trained: what this method takes alone.
        "seconds": sum(clock.seconds for clock in read_lines(Clock, run, "timing.jsonl")),
    }


def table(runs: Mapping[Contestant, Sequence[tuple[int, Run]]]) -> Record:
    """Rank the methods and compare each with one baseline.

    Args:
        runs: For each contestant its finished runs by seed, the same seeds for all.

    Returns:
        ``ranking`` (the rule, in words), ``reference`` (label of that baseline) and ``methods`` in ranked order.
    """
    records = {one: [read_run(run, seed) for seed, run in mine] for one, mine in runs.items()}
    validated = _validated(runs)
    standing, rule = _standing(records, validated)
    ranked = sorted(runs, key=lambda one: -standing[one])
    baselines = [one for one in (ranked if validated else list(runs)) if one.method != OURS]
    reference = baselines[0] if baselines else ranked[0]
    rows = [_row(one, runs[one], records[one], None if one is reference else records[reference]) for one in ranked]
    return {"ranking": rule, "reference": reference.label, "methods": rows}


def _standing(
    records: Mapping[Contestant, list[Record]], validated: Mapping[Contestant, list[float]] | None
) -> tuple[dict[Contestant, float], str]:
    """Say by what the methods are ranked: validation pictures where there are any."""
    if validated is None:
        rule = (
            "in the order of mean balanced accuracy on the test pictures, for want of validation pictures of every"
            " class; nothing was chosen by it: the reference is the first baseline that was named"
        )
        return {one: float(np.mean([record["balanced"] for record in mine])) for one, mine in records.items()}, rule
    rule = (
        "ranked by mean balanced accuracy on the validation pictures, which also chose the reference, the best"
        " baseline; the test pictures only measure"
    )
    return {one: float(np.mean(mine)) for one, mine in validated.items()}, rule


def _validated(runs: Mapping[Contestant, Sequence[tuple[int, Run]]]) -> dict[Contestant, list[float]] | None:
    """Read balanced accuracies on validation pictures; None unless every run has one."""
    found = {one: [_validation(run) for _, run in mine] for one, mine in runs.items()}
    numbers = {one: [value for value in mine if value is not None] for one, mine in found.items()}
    return numbers if numbers == found else None


def _validation(run: Run) -> float | None:
    """Read the balanced accuracy on validation pictures; None unless every class has some.

    Without the rare ones they would prefer what ignores the tail.
    """
    if not (run.path / "validation.json").is_file():
        return None
    quality = checked(Quality, run, "validation.json", run.read_json("validation.json"))
    return None if None in quality.per_class else quality.accuracy.balanced


def _row(
    one: Contestant, runs: Sequence[tuple[int, Run]], records: list[Record], reference: list[Record] | None
) -> Record:
    columns = {name: [record[name] for record in records] for name in (*QUALITIES, *COSTS)}
    kind = find_method(one.method)
    chosen = [{"seed": seed, **_choice(run)} for seed, run in runs if (run.path / "selection.json").is_file()]
    return {
        "label": one.label,
        "method": one.method,
        "summary": kind.summary,
        "source": kind.source,
        "runs": [f"{run.path.parent.name}/{run.path.name}" for _, run in runs],
        "mean": {name: mean(values) for name, values in columns.items()},
        "standard_error": {name: standard_error(values) for name, values in columns.items()},
        "difference": None
        if reference is None
        else {name: paired_difference(columns[name], [record[name] for record in reference]) for name in QUALITIES},
        "per_seed": records,
        "selection": chosen or None,
    }


def _choice(run: Run) -> Record:
    choice = checked(Choice, run, "selection.json", run.selection)
    return {"depth": choice.depth, "weight": choice.weight}


def as_csv(results: Record) -> str:
    """Write the table as CSV: per method its means, standard errors and differences from the reference.

    Args:
        results: As `table` made it.

    Returns:
        Text of ``comparison.csv``.
    """
    rows = []
    for row in results["methods"]:
        flat = {"label": row["label"], "seeds": len(row["per_seed"])}
        for name in (*QUALITIES, *COSTS):
            flat |= {name: row["mean"][name], f"{name}_se": row["standard_error"][name]}
        for name in QUALITIES:
            found = (row["difference"] or {}).get(name, {})
            flat |= {f"{name}_difference{end}": found.get(key) for key, end in _ENDS.items()}
        rows.append(flat)
    return _csv(rows)


_ENDS = {"mean": "", "low": "_low", "high": "_high"}


def runs_as_csv(results: Record) -> str:
    """Write every single run as CSV.

    Args:
        results: As `table` made it.

    Returns:
        Text of ``runs.csv``.
    """
    return _csv([{"label": row["label"], **record} for row in results["methods"] for record in row["per_seed"]])


def _csv(rows: list[Record]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
