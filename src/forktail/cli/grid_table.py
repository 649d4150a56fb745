"""What `forktail grid` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from forktail.cli.tables import console, inert

COLUMNS = {
    "spearman": ("Spearman\nerror", 2),
    "spearman_risk": ("Spearman\nrisk", 2),
    "search_regret": ("regret,\nsearch", 1),
    "oracle_regret": ("regret,\noracle", 1),
    "gain": ("gain", 1),
}


def print_grid(folder: Path, results: dict[str, Any]) -> None:
    """Print how well each reading predicts the refined networks on test.

    Args:
        folder: The grid's folder.
        results: Content of ``grid.json``.
    """
    out = console()
    out.print(grid_table(results))
    lines = [
        f"{len(results['depths'])} depths, {len(results['weights'])} weights, {len(results['seeds'])} seeds; refined"
        " networks on test; means over seeds [95 %]; regrets and gain in points of balanced accuracy",
        "gain: over full sharing at weight 1/2; regret, search: of the selected cell, beside a grid search on"
        " validation",
        f"page: {folder / 'grid.html'}; all figures: {folder / 'grid.json'}",
    ]
    for line in lines:
        out.print(line, markup=False, highlight=False)


def grid_table(results: dict[str, Any]) -> Table:
    """Lay out a grid, one row per reading.

    Args:
        results: Content of ``grid.json``.

    Returns:
        The table.
    """
    table = Table("", "selected\n(depth, weight)", *(title for title, _ in COLUMNS.values()), box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for record in results["measures"]:
        if (record["state"], record["split"]) != ("refined", "test"):
            continue
        if "reason" in record:
            table.add_row(inert(record["reading"]), inert(record["reason"]))
            continue
        cells = [place(**one["selected"]) for one in record["by_seed"]]
        figures = (_figure(record[name], digits) for name, (_, digits) in COLUMNS.items())
        table.add_row(inert(record["reading"]), "; ".join(dict.fromkeys(cells)), *figures)
    return table


def place(depth: int, weight: float | None) -> str:
    """Write depth and weight.

    Args:
        depth: s.
        weight: w; None where nothing is shared.

    Returns:
        Both, or the depth alone.

    Example:
        >>> place(3, 1 / 3), place(0, None)
        ('3, 0.33', '0')
    """
    return f"{depth}" if weight is None else f"{depth}, {weight:.2g}"


def _figure(found: dict[str, Any], digits: int) -> str:
    if found["mean"] is None:
        return "n/a"
    said = f"{found['mean']:.{digits}f}"
    if found["low"] is None:
        return said
    return f"{said} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
