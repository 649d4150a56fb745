"""How often each class occurs, from the most frequent to the rarest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from forktail.report.charts.axes import RIGHT, WIDTH, Area, axis_below, axis_left
from forktail.report.charts.marks import colour
from forktail.report.charts.scale import Scale, asks_for_logarithm, linear, logarithmic
from forktail.report.charts.svg import bar, drawing, label, line, text_width
from forktail.report.numbers import counted

HEIGHT = 230
STRIP = 22  # pixels from one strip to the next


@dataclass(frozen=True)
class Strip:
    """A division of the classes, shown as a strip below the bars.

    Args:
        name: What it divides by.
        groups: Name and style of each group.
        members: For each bar, the number of its group.
    """

    name: str
    groups: Sequence[tuple[str, int]]
    members: Sequence[int]


def frequencies(
    key: str,
    title: str,
    description: str,
    counts: Sequence[int],
    names: Sequence[str],
    strips: Sequence[Strip],
    *,
    classes: int,
) -> Markup:
    """Draw bars side by side; the first strip colours them.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows.
        counts: Images of the class of each bar, at least 1, in descending order.
        names: Name of the class of each bar.
        strips: Divisions of the classes, at least one.
        classes: How many classes the bars stand for; they are evenly spaced by rank.

    Returns:
        The picture.
    """
    area = Area(64, 36, RIGHT, 36 + HEIGHT)
    uneven = asks_for_logarithm(counts)
    y = (
        logarithmic(counts, area.bottom, area.top, room=True)
        if uneven
        else linear(counts, area.bottom, area.top, zero=True)
    )
    x = Scale(0.5, classes + 0.5, area.left, area.right)
    width = classes / len(counts)
    gap = 1.0 if x(width) - x(0) > 4 else 0.0
    groups, members = strips[0].groups, strips[0].members
    bars = [
        bar(
            x(0.5 + number * width) + gap / 2,
            area.bottom,
            x(0.5 + (number + 1) * width) - gap / 2,
            y(count),
            f"mark {colour(groups[members[number]][1])}",
            f"{name}: {counted(count, 'image')}",
        )
        for number, (count, name) in enumerate(zip(counts, names, strict=True))
    ]
    drawn = [
        part
        for number, strip in enumerate(strips)
        for part in _strip(strip, lambda edge: x(0.5 + edge * width), area.bottom + 8 + number * STRIP)
    ]
    under = Area(area.left, area.top, area.right, area.bottom + 8 + STRIP * len(strips))
    return drawing(
        key,
        title,
        description,
        WIDTH,
        under.bottom + 44,
        axis_left(area, y, f"training images{', logarithmic' if uneven else ''}", whole=True),
        *bars,
        line(area.left, area.bottom, area.right, area.bottom, "edge"),
        *drawn,
        axis_below(under, x, "rank of the class by training images", ticks=_ranks(classes)),
    )


def _ranks(number: int) -> list[float]:
    inner = linear([1, number], 0, 1, round_off=False).ticks(whole=True) if number > 1 else []
    return [1.0, *(rank for rank in inner if 0.06 * number < rank <= number)]


def _strip(strip: Strip, edge: Callable[[float], float], top: float) -> list[Markup]:
    """Draw one line per run of bars of the same group, with its name where there is room for it."""
    parts = [label(0, top + 16, strip.name, "tick")]
    first = 0
    for group, run in groupby(strip.members):
        last = first + len(list(run))
        name, style = strip.groups[group]
        start, end = edge(first), edge(last)
        parts.append(bar(start + 0.5, top, end - 0.5, top + 4, f"mark {colour(style)}"))
        if text_width(name) <= end - start:
            parts.append(label((start + end) / 2, top + 16, name, "legend", "middle"))
        first = last
    return parts
