"""`forktail evaluate`: how good a trained model is, on its own test split or on other pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory that `forktail fit` wrote.")],
    data: Annotated[
        str | None, typer.Argument(help="Other data with the same classes: its test part, or all if it has none.")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(help="Class prior: uniform, train, or a JSON file; by default the method's own."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set one value of other data, such as data.unreadable=skip."),
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option("--adapt", help="Also let the method learn on the unlabelled test pictures: a transductive row."),
    ] = False,
    by_class: Annotated[bool, typer.Option("--by-class", help="Print every class, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
) -> None:
    """Print accuracy on many, medium and few, likelihood and calibration. Nothing in the run is changed."""
    from forktail import trained
    from forktail.cli.tables import inert_json, print_classes, print_metrics, read_prior

    metrics = trained.evaluate_run(
        run, data, settings=settings or (), prior=read_prior(prior), device=device, adapt=adapt
    )
    if as_json:
        typer.echo(inert_json(metrics))
    else:
        print_metrics(metrics)
        if adapt:
            print_metrics(metrics["transductive"], "transductive")
        if by_class:
            print_classes(metrics)
