"""`forktail methods`: what can be trained."""

from __future__ import annotations


def methods() -> None:
    """List the methods with one line and the source of each."""
    from rich.table import Table

    from forktail.cli.tables import console
    from forktail.methods import find_method, method_names

    table = Table("method", "what it is", "source", box=None, pad_edge=False)
    for name in method_names():
        kind = find_method(name)
        table.add_row(name, kind.summary, kind.source)
    console().print(table)
