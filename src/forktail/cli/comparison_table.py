"""What `forktail compare` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from forktail.cli.tables import console, inert

SHOWN = ("balanced", "many", "medium", "few", "ece")
MISSING = "n/a"


def print_comparison(folder: Path, results: dict[str, Any]) -> None:
    """Print the table of a comparison, how it was ranked, and where the pages are.

    Args:
        folder: The comparison's folder.
        results: Content of ``comparison.json``.
    """
    out = console()
    out.print(comparison_table(results))
    lines = [
        f"{len(results['seeds'])} seeds, mean \N{PLUS-MINUS SIGN} standard error; accuracies and ece in points, nll in"
        " nats; the interval holds the mean paired difference with 95 %",
        results["budget_text"],
        results["ranking"],
        f"pages: {folder / 'compare.html'}, and report.html of every run in {folder / 'runs'}",
    ]
    for line in lines:
        out.print(line, markup=False, highlight=False)


def comparison_table(results: dict[str, Any]) -> Table:
    """Lay out a comparison, one row per method.

    Args:
        results: Content of ``comparison.json``.

    Returns:
        The table.
    """
    against = f"balanced minus {results['reference']}"
    costs = ("training\nTFLOP", "inference\nMFLOP", "training\nMB", "seconds")
    table = Table("", *SHOWN, "nll", against, *costs, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in results["methods"]:
        mean, error = row["mean"], row["standard_error"]
        table.add_row(
            inert(row["label"]),
            *(_with_error(mean[name], error[name], 100, 1) for name in SHOWN),
            _with_error(mean["nll"], error["nll"], 1, 3),
            _difference((row["difference"] or {}).get("balanced")),
            f"{mean['training_flops'] / 1e12:.3g}",
            f"{mean['inference_flops'] / 1e6:.3g}",
            f"{mean['training_memory'] / 1e6:.3g}",
            f"{mean['seconds']:.0f}",
        )
    return table


def _with_error(mean: float | None, error: float | None, scale: float, digits: int) -> str:
    if mean is None:
        return MISSING
    said = f"{scale * mean:.{digits}f}"
    return said if error is None else f"{said} \N{PLUS-MINUS SIGN} {scale * error:.{digits}f}"


def _difference(found: dict[str, float | None] | None) -> str:
    if found is None or found["mean"] is None:
        return MISSING if found else ""
    said = f"{100 * found['mean']:+.1f}"
    if found["low"] is None or found["high"] is None:
        return said
    return f"{said} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
