"""Lines over a common horizontal axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from forktail.report.charts.axes import RIGHT, WIDTH, Area, Form, axis_below, axis_left
from forktail.report.charts.marks import colour, dash, legend, marker
from forktail.report.charts.scale import Scale, linear
from forktail.report.charts.svg import drawing, element, line
from forktail.report.numbers import significant

HEIGHT = 260  # of the area
MOST_MARKS = 40  # points of one line that are marked one by one


@dataclass(frozen=True)
class Series:
    """One line.

    Args:
        name: Its name.
        points: Horizontal position and value, at least one, from left to right.
        style: Decides colour, shape and dash.
        broad: Draw it broad and pale, so that others on top of it do not hide it.
        errors: How far each value may be off on either side; empty where that is not known.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: int
    broad: bool = False
    errors: Sequence[float] = ()

    @property
    def ends(self) -> list[float]:
        """Values and the ends of their errors."""
        values = [value for _, value in self.points]
        pairs = zip(values, self.errors, strict=True) if self.errors else []
        return values + [end for value, error in pairs for end in (value - error, value + error)]


def lines(
    key: str,
    title: str,
    description: str,
    series: Sequence[Series],
    *,
    x_name: str,
    y_name: str,
    zero: bool = False,
    whole: bool = True,
    form: Form | None = None,
) -> Markup:
    """Draw lines over numbers such as epochs, depths or weights.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows.
        series: At least one line.
        x_name: Name of the horizontal axis with its unit.
        y_name: Name of the vertical axis with its unit.
        zero: The vertical axis holds 0.
        whole: Only whole numbers stand beside the horizontal axis.
        form: How vertical values are written, if not as plain numbers.

    Returns:
        The picture.
    """
    left, right = 64, RIGHT
    names, height = legend([(one.name, one.style) for one in series], 0, WIDTH, lines=True)
    area = Area(left, height + 30, right, height + 30 + HEIGHT)
    x = linear([at for one in series for at, _ in one.points], left + 8, right - 8, round_off=False)
    y = linear([value for one in series for value in one.ends], area.bottom, area.top, zero=zero)
    base = [line(left, y(0), right, y(0), "zero")] if y.low < 0 < y.high else []
    return drawing(
        key,
        title,
        description,
        WIDTH,
        area.bottom + 44,
        names,
        axis_left(area, y, y_name, form=form),
        axis_below(area, x, x_name, whole=whole),
        *base,
        *(part for one in series for part in _whiskers(one, x, y)),
        *(mark for one in series for mark in _drawn(one, [(x(at), y(value), value) for at, value in one.points])),
    )


def _whiskers(one: Series, x: Scale, y: Scale) -> list[Markup]:
    pairs = zip(one.points, one.errors, strict=True) if one.errors else []
    kind = f"whisker {colour(one.style)}"
    return [line(x(at), y(value - error), x(at), y(value + error), kind) for (at, value), error in pairs]


def _drawn(one: Series, points: Sequence[tuple[float, float, float]]) -> list[Markup]:
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down, _ in points)
    kind = f"line broad {colour(one.style)}" if one.broad else f"line {colour(one.style)}"
    joined = element("polyline", points=path, class_=kind, stroke_dasharray=None if one.broad else dash(one.style))
    marked = points if len(points) <= MOST_MARKS else [points[0], points[-1]]
    marks = [
        marker(across, down, one.style, 3.5, tip=f"{one.name}: {significant(value, 4)}")
        for across, down, value in marked
    ]
    return [joined, *marks]
