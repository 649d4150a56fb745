"""A table of values as coloured cells, of which the smallest is sought."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from forktail.labels import FloatArray
from forktail.report.charts.axes import WIDTH
from forktail.report.charts.svg import bar, drawing, element, label, text_width
from forktail.report.numbers import fixed, plain, significant

LEVELS = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0)  # upper ends, as shares of the table's range above the smallest value
TALLEST, LOWEST = 30, 16  # pixels of a row

Cell = tuple[int, int]  # row and column


def heat_map(
    key: str,
    title: str,
    description: str,
    values: FloatArray,
    *,
    rows: Sequence[int],
    columns: Sequence[float],
    chosen: Sequence[Cell],
    alike: Sequence[Cell],
    alike_name: str,
    x_name: str,
    y_name: str,
    unit: str,
    chosen_name: str = "chosen",
) -> Markup:
    """Draw one cell per value, row 0 at the bottom, in steps that are finer near the smallest value.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows.
        values: (rows, columns) finite values.
        rows: Depth of each row.
        columns: Weight of each column.
        chosen: Row and column of the cells that were chosen; they get a ring.
        alike: Cells that get a dot, inside the ring where they have one.
        alike_name: What the dot means.
        x_name: Name of the horizontal axis with its unit.
        y_name: Name of the vertical axis with its unit.
        unit: Unit of the values.
        chosen_name: What the ring means.

    Returns:
        The picture.
    """
    tall, across = values.shape
    left, top, right = 40.0, 30.0, WIDTH - 8.0
    width = (right - left) / across
    height = max(LOWEST, min(TALLEST, 300 / tall))
    bottom = top + tall * height
    corners = {
        (row, column): (left + column * width, bottom - (row + 1) * height)
        for row in range(tall)
        for column in range(across)
    }
    names = [plain(float(f"{value:.3g}")) for value in columns]
    levels = level_of(values)
    gap = 1.0 if width > 8 else 0.0
    cells = [
        bar(
            x,
            y,
            x + width - gap,
            y + height - gap,
            f"level{levels[row, column]}",
            f"depth {rows[row]}, weight {names[column]}: {significant(float(values[row, column]), 4)} {unit}",
        )
        for (row, column), (x, y) in corners.items()
    ]
    centre = {cell: (x + (width - gap) / 2, y + (height - gap) / 2) for cell, (x, y) in corners.items()}
    radius = min(width, height) / 2
    rings = [_ring(*centre[cell], min(8.0, 0.9 * radius)) for cell in chosen]
    dots = [_dot(*centre[cell], min(3.0, 0.5 * radius)) for cell in alike]
    every = max(1, int(-(-(max(text_width(name) for name in names) + 8) // width)))
    first = chosen[0][1] if chosen else 0
    below = [
        label(centre[0, column][0], bottom + 16, names[column], "tick", "middle")
        for column in range(across)
        if (column - first) % every == 0
    ]
    stride = max(1, int(-(-14 // height)))
    beside = [label(left - 8, centre[row, 0][1] + 4, str(rows[row]), "tick", "end") for row in range(0, tall, stride)]
    return drawing(
        key,
        title,
        description,
        WIDTH,
        bottom + 118,
        label(0, 14, y_name, "axis"),
        *cells,
        *rings,
        *dots,
        *beside,
        *below,
        label((left + right) / 2, bottom + 34, x_name, "axis", "middle"),
        _legend(values, left, bottom + 52, unit, chosen_name, alike_name),
    )


def level_of(values: FloatArray) -> np.ndarray:
    """Sort values into steps by how far they lie above the smallest.

    Args:
        values: Finite values of any shape.

    Returns:
        Number of the step in `LEVELS`, 0 for the smallest values; 0 everywhere if all are equal.

    Example:
        >>> level_of(np.array([0.0, 1.0, 2.0, 100.0])).tolist()
        [0, 0, 1, 5]
    """
    low, high = values.min(), values.max()
    above = np.zeros(values.shape) if high == low else (values - low) / (high - low)
    return np.searchsorted(np.array(LEVELS[:-1]) * (1 + 1e-9), above)


def told_apart(ends: Sequence[float]) -> list[str]:
    """Write the ends of the steps with as many decimals as tell a hundredth of their range.

    Args:
        ends: Ascending values.

    Returns:
        One text for each.

    Example:
        >>> told_apart([1.4967, 1.499, 1.52]), told_apart([3.0, 3.0]), told_apart([0.0, 2e7])
        (['1.4967', '1.4990', '1.5200'], ['3.00', '3.00'], ['0', '2 · 10⁷'])
    """
    largest, range_ = max(map(abs, ends)), ends[-1] - ends[0]
    if largest >= 1e5 or range_ < 1e-4 or range_ < 1e-5 * largest:
        return [significant(end) for end in ends]
    return [fixed(end, max(0, 2 - math.floor(math.log10(range_)))) for end in ends]


def _ring(x: float, y: float, radius: float) -> Markup:
    return element("circle", cx=x, cy=y, r=radius, class_="chosen")


def _dot(x: float, y: float, radius: float) -> Markup:
    return element("circle", cx=x, cy=y, r=radius, class_="alike")


def _legend(values: FloatArray, left: float, top: float, unit: str, chosen_name: str, alike_name: str) -> Markup:
    """Explain the steps and the two marks."""
    low, high = float(values.min()), float(values.max())
    width = (WIDTH - 8 - left) / len(LEVELS)
    ends = told_apart([low + share * (high - low) for share in LEVELS])
    parts = []
    for number, (share, text) in enumerate(zip(LEVELS, ends, strict=True)):
        x = left + number * width
        parts.append(bar(x, top, x + width - 1, top + 12, f"level{number}"))
        parts.append(label(x + width - 1, top + 26, f"≤ {text}", "tick", "end"))
        parts.append(label(x + width - 1, top + 40, f"{100 * share:g} %", "tick", "end"))
    parts.append(label(0, top + 26, unit, "tick"))
    parts.append(label(0, top + 40, "range", "tick"))
    y = top + 58
    parts += [_ring(left + 8, y - 4, 6), label(left + 20, y, chosen_name, "legend")]
    right = left + 48 + text_width(chosen_name)
    parts += [bar(right, y - 12, right + 16, y + 3, "level0"), _dot(right + 8, y - 4, 3)]
    parts.append(label(right + 22, y, alike_name, "legend"))
    return Markup("").join(parts)
