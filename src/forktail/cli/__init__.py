"""The command `forktail`: one small file per verb; nothing heavy is imported before a verb runs."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

import forktail
from forktail.cli.compare import compare
from forktail.cli.evaluate import evaluate
from forktail.cli.fit import fit
from forktail.cli.grid import grid
from forktail.cli.methods import methods
from forktail.cli.predict import predict
from forktail.cli.pretrain import pretrain
from forktail.cli.report import report
from forktail.errors import InputError

app = typer.Typer(
    help="Long-tailed recognition: classifiers that are good on every class, with the reasons.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a bug keeps its plain traceback
)
for verb in (fit, compare, grid, evaluate, predict, report, methods, pretrain):
    app.command()(verb)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"forktail {forktail.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = (
        False
    ),
) -> None:
    pass


def main() -> None:
    """Run the command; bad input is one line and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be Unicode
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
