"""`forktail grid`: every shared depth and task weight, and how well the criterion predicts them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def grid(
    data: Annotated[str, typer.Argument(help="As in `forktail fit`.")],
    weights: Annotated[int, typer.Option(help="How many weights of the head, evenly spaced; odd.")] = 9,
    depths: Annotated[str | None, typer.Option(help="Shared depths, separated by commas; all by default.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of training, separated by commas.")] = "0,1,2",
    readings: Annotated[
        str, typer.Option(help="Readings of the criterion, separated by commas, or usual, or all.")
    ] = "usual",
    backbone: Annotated[str | None, typer.Option(help="Name of a backbone, or a file of its weights.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file to start from.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one value, such as plan.epochs=10.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; runs/<data>-grid by default.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of trained stages, to share with another grid.")] = None,
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Do the I-th of N parts, as one task of a job array.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Pieces at once, in as many processes.")] = 1,
) -> None:
    """Train every shared depth and task weight, and say whether the criterion predicts them.

    The same command again goes on where it was stopped.
    """
    from forktail.cli.numbers import numbers
    from forktail.cli.progress import watcher

    asked = None if depths is None else numbers("--depths", depths)
    several, share = numbers("--seeds", seeds), None if part is None else _part(part)
    with watcher() as progress:
        from forktail.cli.grid_table import print_grid
        from forktail.grids.grid import grid as run_grid

        found = run_grid(
            data,
            weights=weights,
            depths=asked,
            seeds=several,
            readings=readings,
            backbone=backbone,
            recipe=recipe,
            settings=settings or (),
            out=out,
            cache=cache,
            part=share,
            jobs=jobs,
            progress=progress,
        )
    if found.finished:
        print_grid(found.path, found.results)


def _part(text: str) -> tuple[int, int]:
    from forktail.cli.numbers import numbers

    found = numbers("--part", text, separator="/", expected="I/N, such as 2/10")
    return found[0], found[-1]
