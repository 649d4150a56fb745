"""`forktail fit`: from a data set to a trained, evaluated model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fit(
    data: Annotated[str, typer.Argument(help="Folder of class folders, list, CSV, .npz, or a named set (glyphs).")],
    method: Annotated[str | None, typer.Option(help="See `forktail methods`; osdtw by default.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Name of a backbone, or a file of its weights.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file to start from.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set one value, such as plan.epochs=10.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; runs/<data>-<method>-<seed> by default.")] = None,
) -> None:
    """Train a classifier that is good on every class, and say how good.

    The same command again goes on with an interrupted run.
    """
    from forktail.cli.progress import watcher

    with watcher() as progress:  # from here on Ctrl-C is answered, also while torch is being imported
        from forktail import fitting
        from forktail.cli.tables import print_run

        run = fitting.fit(
            data, method, backbone=backbone, recipe=recipe, settings=settings or (), out=out, progress=progress
        )
    print_run(run)
