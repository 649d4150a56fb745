"""Points of two measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from forktail.report.charts.axes import RIGHT, WIDTH, Area, Form, axis_below, axis_left
from forktail.report.charts.marks import legend, marker
from forktail.report.charts.scale import Scale, asks_for_logarithm, linear, logarithmic
from forktail.report.charts.svg import drawing, element, fitting, label, line, text_width

HEIGHT = 270
LABEL = 16  # pixels between names that stand below one another
WIDEST_NAME = 170


@dataclass(frozen=True)
class Point:
    """One point.

    Args:
        x: Horizontal measure.
        y: Vertical measure.
        style: Decides colour and shape.
        name: What it is.
    """

    x: float
    y: float
    style: int
    name: str


def scatter(
    key: str,
    title: str,
    description: str,
    points: Sequence[Point],
    *,
    groups: Sequence[tuple[str, int]],
    trend: Sequence[tuple[float, float]],
    x_name: str,
    y_name: str,
    form: Form | None = None,
) -> Markup:
    """Draw many points, told apart by group, over a range of 0 to 1.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows.
        points: At least one point; its ``y`` is a share.
        groups: Name and style of each group.
        trend: Points of a line through them; may be empty.
        x_name: Name of the horizontal axis with its unit.
        y_name: Name of the vertical axis with its unit.
        form: How vertical values are written.

    Returns:
        The picture.
    """
    names, height = legend(groups, 0, WIDTH, lines=False)
    area = Area(64, height + 30, RIGHT, height + 30 + HEIGHT)
    x, scaled = _x_scale(points, area)
    y = Scale(0, 1, area.bottom, area.top)
    path = " ".join(f"{x(across):.1f},{y(up):.1f}" for across, up in trend)
    size = 4.0 if len(points) <= 200 else 2.5
    return drawing(
        key,
        title,
        description,
        WIDTH,
        area.bottom + 44,
        names,
        axis_left(area, y, y_name, form=form),
        axis_below(area, x, x_name + scaled),
        *(marker(x(p.x), y(p.y), p.style, size, "mark faint", p.name) for p in points),
        *([element("polyline", points=path, class_="trend")] if trend else []),
    )


def signed_scatter(
    key: str,
    title: str,
    description: str,
    points: Sequence[Point],
    *,
    groups: Sequence[tuple[str, int]],
    diagonal: bool,
    x_name: str,
    y_name: str,
) -> Markup:
    """Draw many points of two measures that may lie on either side of 0, told apart by group.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows.
        points: At least one point.
        groups: Name and style of each group.
        diagonal: Show where both measures are equal.
        x_name: Name of the horizontal axis with its unit.
        y_name: Name of the vertical axis with its unit.

    Returns:
        The picture.
    """
    names, height = legend(groups, 0, WIDTH, lines=False)
    area = Area(64, height + 30, RIGHT, height + 30 + HEIGHT)
    x = linear([point.x for point in points], area.left + 10, area.right - 10, zero=True)
    y = linear([point.y for point in points], area.bottom - 10, area.top + 10, zero=True)
    low, high = max(x.low, y.low), min(x.high, y.high)  # both axes hold 0, so this is a stretch
    size = 4.0 if len(points) <= 200 else 2.5
    return drawing(
        key,
        title,
        description,
        WIDTH,
        area.bottom + 44,
        names,
        axis_left(area, y, y_name),
        axis_below(area, x, x_name),
        line(x(0), area.top, x(0), area.bottom, "zero"),
        line(area.left, y(0), area.right, y(0), "zero"),
        *([line(x(low), y(low), x(high), y(high), "diagonal")] if diagonal else []),
        *(marker(x(p.x), y(p.y), p.style, size, "mark faint", p.name) for p in points),
    )


def named_scatter(
    key: str,
    title: str,
    description: str,
    points: Sequence[Point],
    *,
    x_name: str,
    y_name: str,
    form: Form | None = None,
) -> Markup:
    """Draw few points, each joined to its name on the right.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows.
        points: At least one point.
        x_name: Name of the horizontal axis with its unit.
        y_name: Name of the vertical axis with its unit.
        form: How vertical values are written.

    Returns:
        The picture.
    """
    names = min(WIDEST_NAME, max(text_width(point.name) for point in points))
    area = Area(64, 36, WIDTH - names - 34, 36 + max(HEIGHT, LABEL * len(points)))
    x, scaled = _x_scale(points, area)
    y = linear([point.y for point in points], area.bottom, area.top)
    places = spread([y(point.y) for point in points], area.top, area.bottom, LABEL)
    return drawing(
        key,
        title,
        description,
        WIDTH,
        area.bottom + 44,
        axis_left(area, y, y_name, form=form),
        axis_below(area, x, x_name + scaled),
        *(line(x(p.x), y(p.y), area.right + 12, place, "leader") for p, place in zip(points, places, strict=True)),
        *(
            label(area.right + 18, place + 4, fitting(p.name, WIDEST_NAME), "name")
            for p, place in zip(points, places, strict=True)
        ),
        *(marker(x(p.x), y(p.y), p.style, 5, tip=p.name) for p in points),
    )


def spread(places: Sequence[float], low: float, high: float, gap: float) -> list[float]:
    """Push places apart so that none is nearer than a gap to the next, in their order.

    Args:
        places: Where each would like to be.
        low: The least place.
        high: The largest place; there has to be room.
        gap: Least distance.

    Returns:
        One place for each, in the order given.

    Example:
        >>> spread([5, 5, 40], 0, 50, 10)
        [5, 15, 40]
        >>> spread([50, 49], 0, 50, 10)
        [50, 40]
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    limit = low
    for index in order:
        moved[index] = max(moved[index], limit)
        limit = moved[index] + gap
    limit = high
    for index in reversed(order):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - gap
    return moved


def _x_scale(points: Sequence[Point], area: Area) -> tuple[Scale, str]:
    values = [point.x for point in points]
    if asks_for_logarithm(values):
        return logarithmic(values, area.left + 10, area.right - 10), ", logarithmic"
    return linear(values, area.left + 10, area.right - 10), ""
