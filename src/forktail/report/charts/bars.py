"""Horizontal bars, one per row, with the value at the end of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from forktail.report.charts.axes import WIDTH, Area, Form, axis_below
from forktail.report.charts.marks import colour
from forktail.report.charts.scale import Scale, linear
from forktail.report.charts.svg import bar, drawing, fitting, label, line, text_width

ROW = 26
WIDEST_NAME = 170


@dataclass(frozen=True)
class Bar:
    """One row.

    Args:
        name: Its name.
        value: Its length; None draws nothing but says so.
        style: Decides its colour.
    """

    name: str
    value: float | None
    style: int = 0


def bars(
    key: str,
    title: str,
    description: str,
    rows: Sequence[Bar],
    *,
    x_name: str,
    form: Callable[[float | None], str],
    tick_form: Form | None = None,
    most: float | None = None,
) -> Markup:
    """Draw rows from top to bottom.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows.
        rows: At least one row.
        x_name: Name of the horizontal axis with its unit.
        form: How a value is written beside its bar.
        tick_form: How values are written beside the axis.
        most: Where the axis ends; by default at the largest value.

    Returns:
        The picture.
    """
    left = min(WIDEST_NAME, max(text_width(row.name) for row in rows)) + 12
    known = [row.value for row in rows if row.value is not None]
    room = max(text_width(form(row.value)) for row in rows) + 10
    area = Area(left, 8, WIDTH - room, 8 + ROW * len(rows))
    x = Scale(0, most, left, area.right) if most else linear(known or [0.0], left, area.right, zero=True)
    return drawing(
        key,
        title,
        description,
        WIDTH,
        area.bottom + 44,
        axis_below(area, x, x_name, form=tick_form, grid=True),
        *(part for number, row in enumerate(rows) for part in _row(row, area.top + number * ROW, x, left, form)),
        line(x(0), area.top, x(0), area.bottom, "edge"),
    )


def _row(row: Bar, top: float, x: Scale, left: float, form: Callable[[float | None], str]) -> list[Markup]:
    name = label(left - 8, top + 17, fitting(row.name, WIDEST_NAME), "name", "end")
    if row.value is None:
        return [name, label(left + 6, top + 17, form(None), "tick")]
    end = x(row.value)
    return [
        name,
        bar(x(0), top + 5, end, top + ROW - 5, f"mark {colour(row.style)}"),
        label(max(end, x(0)) + 6, top + 17, form(row.value), "value"),
    ]
