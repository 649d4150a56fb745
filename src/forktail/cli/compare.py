"""`forktail compare`: several methods on the same data at the same cost."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from forktail.comparing.defaults import BUDGET, METHODS, SEEDS


class Budget(StrEnum):
    """What is equal between methods."""

    epochs = "epochs"
    compute = "compute"


def compare(
    data: Annotated[str, typer.Argument(help="As in `forktail fit`.")],
    methods: Annotated[
        str, typer.Option(help="Names, separated by commas; NAME:KEY=VALUE gives one an option of its own.")
    ] = ",".join(METHODS),
    budget: Annotated[
        Budget, typer.Option(help="Equal epochs per stage, or equal training compute per method.")
    ] = Budget[BUDGET],
    seeds: Annotated[str, typer.Option(help="Seeds of training, separated by commas.")] = ",".join(map(str, SEEDS)),
    backbone: Annotated[str | None, typer.Option(help="Name of a backbone, or a file of its weights.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file to start from.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one value, such as plan.epochs=10.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; runs/<data>-comparison by default.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once, in as many processes.")] = 1,
) -> None:
    """Compare methods: mean and standard error over seeds, paired differences, cost.

    The same command again goes on where it was stopped.
    """
    from forktail.cli.progress import watcher

    numbers = _numbers(seeds)
    with watcher() as progress:
        from forktail.cli.comparison_table import print_comparison
        from forktail.comparing.compare import compare as run_comparison

        comparison = run_comparison(
            data,
            methods,
            budget=budget.value,
            seeds=numbers,
            backbone=backbone,
            recipe=recipe,
            settings=settings or (),
            out=out,
            jobs=jobs,
            progress=progress,
        )
    print_comparison(comparison.path, comparison.results)
    _fail(comparison.results["left_out"])


def _numbers(seeds: str) -> list[int]:
    from forktail.errors import InputError

    try:
        return [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise InputError(f'--seeds "{seeds}"', expected="numbers, separated by commas, such as 0,1,2") from None


def _fail(left_out: list[dict[str, object]]) -> None:
    """End with an error where the table is not what was asked for."""
    from forktail.errors import InputError

    if left_out:
        said = "; ".join(f"{run['label']}, seed {run['seed']}: {run['reason']}" for run in left_out)
        raise InputError(f"left out, because a run failed: {said}", remedy="mend it and give the command again")
