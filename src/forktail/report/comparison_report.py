"""A comparison becomes ``compare.html``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from markupsafe import Markup

from forktail.report.comparison_figures import compute_figure, differences_figure, groups_figure, with_error
from forktail.report.comparison_file import ACCURACIES, Comparison, Row, read_comparison
from forktail.report.comparison_words import cautions, headline
from forktail.report.names import isolated
from forktail.report.numbers import NONE, fixed, points, weight
from forktail.report.page import Table, render
from forktail.report.run_report import REPORT
from forktail.run import Run

PAGE = "compare.html"

_HEADINGS = {"balanced": "all classes", "worst": "worst class", "micro": "all images"}


@dataclass(frozen=True)
class SeedRow:
    """One run.

    Args:
        label: Its method.
        seed: Its seed.
        numbers: Its qualities and its time.
        depth: What it chose; a dash for a method that chooses nothing.
        weight: What it chose.
        link: Where its report is, from this page; None if that cannot be said.
    """

    label: str
    seed: str
    numbers: list[str]
    depth: str
    weight: str
    link: str | None


def write_comparison_report(folder: Path) -> Path:
    """Write the report of a finished comparison, from its ``comparison.json`` alone.

    The page is one file that fetches nothing; the same file makes the same bytes.

    Args:
        folder: The folder of the comparison.

    Returns:
        Path of ``compare.html``, in that folder.
    """
    place = Run(folder)
    comparison = read_comparison(place)
    page = render(
        "comparison.html",
        comparison=comparison,
        headline=headline(comparison),
        cautions=cautions(comparison),
        results=_results(comparison),
        cost=_cost(comparison),
        differences=differences_figure(comparison),
        groups=groups_figure(comparison),
        compute=compute_figure(comparison.methods),
        seed_columns=[f"{_HEADINGS.get(key, key)}, %" for key in ACCURACIES] + ["NLL, nats", "ECE, points", "time, s"],
        seeds=[seed for row in comparison.methods for seed in _seed_rows(row)],
        chooses=any(row.selection for row in comparison.methods),
    )
    place.write_text(PAGE, page)
    return place.path / PAGE


def _results(comparison: Comparison) -> Table:
    """How good each method is, in ranked order."""
    return Table(
        ["method", *(f"{_HEADINGS.get(key, key)}, %" for key in ACCURACIES), "NLL, nats", "ECE, points"],
        [
            [
                _ranked(comparison, number, row),
                *(with_error(row, key, 100, 1) for key in ACCURACIES),
                with_error(row, "nll", 1, 3),
                with_error(row, "ece", 100, 1),
            ]
            for number, row in enumerate(comparison.methods, start=1)
        ],
    )


def _cost(comparison: Comparison) -> Table:
    """What each method costs, in the same order."""
    return Table(
        [
            "method",
            "compute, TFLOP",
            "memory, MB",
            "time, s",
            "inference, MFLOP",
            "parameters, millions",
        ],
        [
            [
                _ranked(comparison, number, row),
                with_error(row, "training_flops", 1e-12, None),
                with_error(row, "training_memory", 1e-6, None),
                with_error(row, "seconds", 1, 1),
                with_error(row, "inference_flops", 1e-6, None),
                with_error(row, "parameters", 1e-6, None),
            ]
            for number, row in enumerate(comparison.methods, start=1)
        ],
    )


def _ranked(comparison: Comparison, number: int, row: Row) -> Markup:
    said = " (reference)" if row.label == comparison.reference else ""
    return Markup("{}. {}{}").format(number, isolated(row.label), said)


def _seed_rows(row: Row) -> list[SeedRow]:
    chosen = {cell.seed: (str(cell.depth), weight(cell.weight)) for cell in row.selection or []}
    return [
        SeedRow(
            row.label,
            fixed(record["seed"], 0),
            [
                *(points(record.get(key)) for key in ACCURACIES),
                fixed(record.get("nll"), 3),
                points(record.get("ece")),
                fixed(record.get("seconds"), 1),
            ],
            *chosen.get(int(record["seed"] or 0), (NONE, NONE)),
            report_link(run),
        )
        for record, run in zip(row.per_seed, row.runs, strict=True)
    ]


def report_link(run: str) -> str | None:
    """Return where a run's report is, from the page of the comparison.

    Args:
        run: Folder of the run, from that of the comparison.

    Returns:
        A link that cannot lead out of the folder; None if the run lies elsewhere.

    Example:
        >>> report_link("runs/ce 0"), report_link("../ce-0"), report_link("javascript:alert(1)")
        ('./runs/ce%200/report.html', None, './javascript%3Aalert%281%29/report.html')
    """
    path = PurePosixPath(run)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return None
    return "./" + quote(f"{path}/{REPORT}")
