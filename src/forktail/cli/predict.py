"""`forktail predict`: pictures in, classes with probabilities out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Form(StrEnum):
    """How predictions are written."""

    table = "table"
    json = "json"
    csv = "csv"


def predict(
    run: Annotated[Path, typer.Argument(help="Run directory that `forktail fit` wrote.")],
    pictures: Annotated[list[Path], typer.Argument(help="Picture files, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to print for each picture.")] = 3,
    prior: Annotated[
        str | None,
        typer.Option(help="Class prior: uniform, train, or a JSON file; by default the method's own."),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="How to print.")] = Form.table,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Classify pictures."""
    from forktail import trained
    from forktail.cli.tables import print_predictions, read_prior
    from forktail.errors import InputError

    found, problems = trained.predict_files(run, pictures, prior=read_prior(prior), top=top, device=device)
    if found or not problems:
        print_predictions(found, form)
    if problems:
        raise InputError(
            f"{len(problems)} of {len(found) + len(problems)} were left out: {'; '.join(problems[:5])}",
            expected="pictures that can be decoded",
            remedy="mend them or leave them out" + ("; the others stand above" if found else ""),
        )
