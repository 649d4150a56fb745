"""`forktail methods`: what can be trained."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Action(StrEnum):
    """What to do with one method."""

    show = "show"


def methods(
    action: Annotated[Action | None, typer.Argument(help="With NAME: print that method's page.")] = None,
    name: Annotated[str | None, typer.Argument(help="A method.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/methods.md.")] = False,
) -> None:
    """List the methods with one line, the cost and the source of each.

    `forktail methods show NAME` prints the page of one: what it does, its stages, its hyper-parameters, a command.
    """
    _check(action, name, as_json, as_markdown)

    from rich.text import Text

    from forktail.cli.method_pages import described, method_page, methods_markdown, methods_table
    from forktail.cli.tables import console, inert_json
    from forktail.methods import find_method, method_names

    kinds = [find_method(name)] if name else [find_method(each) for each in method_names()]
    if as_json:
        print(inert_json([described(kind) for kind in kinds]))  # noqa: T201
    elif as_markdown:
        print(methods_markdown(kinds), end="")  # noqa: T201
    else:
        console().print(Text(method_page(kinds[0])) if name else methods_table(kinds))


def _check(action: Action | None, name: str | None, as_json: bool, as_markdown: bool) -> None:
    if (action is None) != (name is None):
        raise typer.BadParameter("expected: forktail methods show NAME", param_hint="NAME")
    if as_markdown and (as_json or name):
        raise typer.BadParameter("the page lists all methods", param_hint="--markdown")
