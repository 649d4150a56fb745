"""Confidence against accuracy, and how many images speak for each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from forktail.report.charts.axes import RIGHT, WIDTH, Area, axis_below, axis_left
from forktail.report.charts.marks import legend, marker
from forktail.report.charts.scale import Scale, linear
from forktail.report.charts.svg import bar, drawing, label, line
from forktail.report.numbers import counted, percent, plain

HEIGHT, COUNTS = 240, 64


@dataclass(frozen=True)
class Bin:
    """Images of about the same confidence.

    Args:
        low: Lower edge of the bin.
        high: Upper edge.
        images: How many.
        confidence: Their mean confidence; None without images.
        accuracy: Share of them that is right; None without images.
    """

    low: float
    high: float
    images: int
    confidence: float | None
    accuracy: float | None


def reliability(key: str, title: str, description: str, bins: Sequence[Bin]) -> Markup:
    """Draw accuracy over confidence with the diagonal of honest probabilities, and the counts below.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows.
        bins: At least one.

    Returns:
        The picture.
    """
    names, height = legend([("accuracy of a bin; the line is its distance from honest", 0)], 0, WIDTH, lines=False)
    area = Area(64, height + 30, RIGHT, height + 30 + HEIGHT)
    below = Area(area.left, area.bottom + 34, area.right, area.bottom + 34 + COUNTS)
    x = Scale(0, 1, area.left, area.right)
    y = Scale(0, 1, area.bottom, area.top)
    tall = linear([one.images for one in bins], below.bottom, below.top, zero=True)
    return drawing(
        key,
        title,
        description,
        WIDTH,
        below.bottom + 44,
        names,
        axis_left(area, y, "accuracy, share of the bin's images", form=_per_cent),
        line(area.left, area.bottom, area.right, area.bottom, "edge"),
        line(x(0), y(0), x(1), y(1), "diagonal"),
        *(part for one in bins for part in _point(one, x, y)),
        label(0, below.top - 10, "test images in each bin", "axis"),
        *_count_ticks(tall, below),
        *(
            bar(
                x(one.low) + 1, below.bottom, x(one.high) - 1, tall(one.images), "mark s6", counted(one.images, "image")
            )
            for one in bins
        ),
        axis_below(below, x, "confidence, probability of the predicted class", form=_per_cent),
    )


def _point(one: Bin, x: Scale, y: Scale) -> list[Markup]:
    if one.confidence is None or one.accuracy is None:
        return []
    across = x(one.confidence)
    said = f"confidence {percent(one.confidence)}, accuracy {percent(one.accuracy)}, {counted(one.images, 'image')}"
    return [
        line(across, y(one.confidence), across, y(one.accuracy), "gap s1"),
        marker(across, y(one.accuracy), 0, 4.5, tip=said),
    ]


def _count_ticks(scale: Scale, area: Area) -> list[Markup]:
    return [
        part
        for value in scale.ticks(2, whole=True)
        for part in (
            line(area.left, scale(value), area.right, scale(value), "grid"),
            label(area.left - 8, scale(value) + 4, plain(value), "tick", "end"),
        )
    ]


def _per_cent(share: float) -> str:
    return f"{100 * share:g} %"
