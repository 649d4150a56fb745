"""Points with intervals, one row per thing that is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from forktail.report.charts.axes import RIGHT, WIDTH, Area, Form, axis_below
from forktail.report.charts.marks import colour, legend, marker
from forktail.report.charts.scale import Scale, linear, logarithmic
from forktail.report.charts.svg import bar, drawing, fitting, label, line, text_width
from forktail.report.numbers import UNKNOWN

STEP = 13  # pixels between the series of one row
WIDEST_NAME = 180


@dataclass(frozen=True)
class Estimate:
    """A value and how far chance may have moved it.

    Args:
        centre: The value; None is not known.
        low: Lower end of its interval; None where there is none.
        high: Upper end.
    """

    centre: float | None
    low: float | None = None
    high: float | None = None

    @property
    def values(self) -> list[float]:
        """What of it is known."""
        return [value for value in (self.low, self.centre, self.high) if value is not None]


@dataclass(frozen=True)
class Measured:
    """One series: an estimate in every row.

    Args:
        name: Its name.
        style: Decides colour and shape.
        estimates: One per row.
    """

    name: str
    style: int
    estimates: Sequence[Estimate]


def intervals(
    key: str,
    title: str,
    description: str,
    rows: Sequence[str],
    series: Sequence[Measured],
    *,
    x_name: str,
    form: Form | None = None,
    zero: bool = False,
    decades: bool = False,
) -> Markup:
    """Draw rows from top to bottom, and in each row the series below one another.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows.
        rows: Their names, at least one.
        series: At least one.
        x_name: Name of the horizontal axis with its unit.
        form: How values are written beside the axis.
        zero: Mark 0, the line of no difference.
        decades: A logarithmic axis.

    Returns:
        The picture.
    """
    left = min(WIDEST_NAME, max(text_width(name) for name in rows)) + 12
    names, height = legend([(one.name, one.style) for one in series], 0, WIDTH, lines=False)
    tall = STEP * len(series) + 12
    area = Area(left, height + 6, RIGHT, height + 6 + tall * len(rows))
    known = [value for one in series for estimate in one.estimates for value in estimate.values]
    fit = logarithmic if decades else linear
    x = fit(known or [1.0], left + 8, area.right - 8)
    if zero:
        x = linear([*known, 0.0], left + 8, area.right - 8)
    bands = [
        bar(0, area.top + number * tall, area.right, area.top + (number + 1) * tall, "band")
        for number in range(0, len(rows), 2)
    ]
    return drawing(
        key,
        title,
        description,
        WIDTH,
        area.bottom + 44,
        names,
        *bands,
        axis_below(area, x, x_name, form=form, grid=True),
        *([line(x(0), area.top, x(0), area.bottom, "zero")] if zero else []),
        *(
            label(left - 8, area.top + (number + 0.5) * tall + 4, fitting(name, WIDEST_NAME), "name", "end")
            for number, name in enumerate(rows)
        ),
        *(
            part
            for number in range(len(rows))
            for order, one in enumerate(series)
            for part in _estimate(one, number, x, area.top + number * tall + 6 + STEP * (order + 0.5), left)
        ),
    )


def _estimate(one: Measured, row: int, x: Scale, y: float, left: float) -> list[Markup]:
    estimate = one.estimates[row]
    if estimate.centre is None:
        return [label(left + 8, y + 4, f"{one.name}: {UNKNOWN}", "tick")]
    parts = []
    if estimate.low is not None and estimate.high is not None:
        low, high = x(estimate.low), x(estimate.high)
        parts = [line(a, b, c, d, f"whisker {colour(one.style)}") for a, b, c, d in _whisker(low, high, y)]
    return [*parts, marker(x(estimate.centre), y, one.style)]


def _whisker(low: float, high: float, y: float) -> list[tuple[float, float, float, float]]:
    return [(low, y, high, y), (low, y - 3, low, y + 3), (high, y - 3, high, y + 3)]
