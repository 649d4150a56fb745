"""`forktail report`: write the page of a run, a comparison or a grid again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="What `forktail fit`, `compare` or `grid` wrote.")],
) -> None:
    """Write report.html, compare.html or grid.html anew from the files of the folder; they write themselves, too."""
    from forktail.cli.tables import console
    from forktail.errors import InputError
    from forktail.report.comparison_report import write_comparison_report
    from forktail.report.grid_report import write_grid_report
    from forktail.report.run_report import write_run_report
    from forktail.run import Run

    if (folder / "comparison.json").is_file():
        page = write_comparison_report(folder)
    elif (folder / "grid.json").is_file():
        page = write_grid_report(folder)
    elif (folder / "metrics.json").is_file():
        page = write_run_report(Run(folder))
    else:
        raise InputError(f"{folder}: no finished run, comparison or grid", expected="what fit, compare or grid wrote")
    console().print(str(page), markup=False, highlight=False)
