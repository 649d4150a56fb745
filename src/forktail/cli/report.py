"""`forktail report`: write a run's or a comparison's page again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="What `forktail fit` or `forktail compare` wrote.")],
) -> None:
    """Write report.html or compare.html anew from the files of the folder; they are written by themselves, too."""
    from forktail.cli.tables import console
    from forktail.errors import InputError
    from forktail.report.comparison_report import write_comparison_report
    from forktail.report.run_report import write_run_report
    from forktail.run import Run

    if (folder / "comparison.json").is_file():
        page = write_comparison_report(folder)
    elif (folder / "metrics.json").is_file():
        page = write_run_report(Run(folder))
    else:
        raise InputError(f"{folder}: no finished run and no comparison", expected="what fit or compare wrote")
    console().print(str(page), markup=False, highlight=False)
