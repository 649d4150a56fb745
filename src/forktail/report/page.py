"""From content to one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from forktail.report import names, numbers


@dataclass(frozen=True)
class Table:
    """Numbers, or words and numbers, in rows.

    Args:
        columns: Their names, with units.
        rows: Cells as text; the first is the row's name.
        words: How many columns, from the left, hold words; the others are numbers.
        note: What it leaves out.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A chart, what to say of it, and its numbers.

    Args:
        key: Names it in the page.
        title: What it is.
        chart: The picture, as markup.
        table: Its numbers.
        note: What to look at, or beware of.
    """

    key: str
    title: str
    chart: Markup
    table: Table
    note: str | Markup = ""


@dataclass(frozen=True)
class Tile:
    """One number that is read first.

    Args:
        name: What it is.
        value: The number with its unit.
        note: What it is a number of.
    """

    name: str
    value: str
    note: str


def render(template: str, **content: object) -> str:
    """Fill a page.

    Args:
        template: File name of the page's template.
        **content: What it shows.

    Returns:
        The page; the same content makes the same bytes.
    """
    return _environment().get_template(template).render(**content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("forktail.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    shown = (numbers.percent, numbers.points, numbers.whole, numbers.significant, numbers.duration, numbers.with_prefix)
    environment.filters |= {function.__name__: function for function in shown}
    environment.filters |= {"isolated": names.isolated, "shortened": names.shortened}
    return environment
