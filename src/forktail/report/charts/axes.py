"""The frame of a chart: its area, grid lines, ticks and the names of its axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from forktail.report.charts.scale import Scale
from forktail.report.charts.svg import label, line
from forktail.report.numbers import plain, side_by_side

WIDTH = 560  # pixels of every chart; the page may show it smaller
RIGHT = WIDTH - 24  # right edge of an area; half of the last number stands beyond it
Form = Callable[[float], str]


@dataclass(frozen=True)
class Area:
    """Where values are drawn, in pixels from the top left corner.

    Args:
        left: Left edge.
        top: Top edge.
        right: Right edge.
        bottom: Bottom edge.
    """

    left: float
    top: float
    right: float
    bottom: float


def axis_left(area: Area, scale: Scale, name: str, *, form: Form | None = None, whole: bool = False) -> Markup:
    """Draw a vertical axis: a grid line for each tick, and the name above, where it is read without turning the head.

    Args:
        area: Where values are drawn.
        scale: Its values.
        name: Its name with the unit.
        form: How values are written, if not as plain numbers.
        whole: Whole numbers alone.

    Returns:
        The axis.
    """
    parts = [label(0, area.top - 12, name, "axis")]
    for value, text in _labelled(scale, scale.ticks(whole=whole), form):
        y = scale(value)
        parts.append(line(area.left, y, area.right, y, "grid"))
        parts.append(label(area.left - 8, y + 4, text, "tick", "end"))
    return Markup("").join(parts)


def axis_below(
    area: Area,
    scale: Scale,
    name: str,
    *,
    form: Form | None = None,
    whole: bool = False,
    grid: bool = False,
    ticks: Sequence[float] | None = None,
) -> Markup:
    """Draw a horizontal axis with its name below.

    Args:
        area: Where values are drawn.
        scale: Its values.
        name: Its name with the unit.
        form: How values are written, if not as plain numbers.
        whole: Whole numbers alone.
        grid: Draw a line across the area for each tick.
        ticks: What to write beside it, if not round values.

    Returns:
        The axis, 40 pixels high.
    """
    parts = [line(area.left, area.bottom, area.right, area.bottom, "edge")]
    for value, text in _labelled(scale, scale.ticks(whole=whole) if ticks is None else ticks, form):
        x = scale(value)
        parts.append(line(x, area.top if grid else area.bottom, x, area.bottom + 4, "grid" if grid else "edge"))
        parts.append(label(x, area.bottom + 18, text, "tick", "middle"))
    parts.append(label((area.left + area.right) / 2, area.bottom + 36, name, "axis", "middle"))
    return Markup("").join(parts)


def _labelled(scale: Scale, values: Sequence[float], form: Form | None) -> list[tuple[float, str]]:
    if form is not None:
        texts = [form(value) for value in values]
    else:
        texts = [plain(value) for value in values] if scale.logarithmic else side_by_side(values)
    return list(zip(values, texts, strict=True))
