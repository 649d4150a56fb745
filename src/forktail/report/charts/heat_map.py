"""A table of values as coloured cells, of which the smallest is sought."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from forktail.labels import FloatArray
from forktail.report.charts.axes import WIDTH
from forktail.report.charts.svg import bar, drawing, element, label, text_width
from forktail.report.numbers import plain, significant

LEVELS = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0)  # upper ends, as shares of the table's range above the smallest value
TALLEST, LOWEST = 30, 16  # pixels of a row

Cell = tuple[int, int]  # row and column


def heat_map(
    key: str,
    title: str,
    description: str,
    values: FloatArray,
    *,
    columns: Sequence[float],
    chosen: Cell,
    alike: Sequence[Cell],
    alike_name: str,
    x_name: str,
    y_name: str,
    unit: str,
) -> Markup:
    """Draw one cell per value, row 0 at the bottom, in steps that are finer near the smallest value.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows.
        values: (rows, columns) finite values.
        columns: What stands below each column.
        chosen: Row and column of the cell that was chosen.
        alike: Cells that are as good as the chosen one; they get a dot.
        alike_name: What the dot means.
        x_name: Name of the horizontal axis with its unit.
        y_name: Name of the vertical axis with its unit.
        unit: Unit of the values.

    Returns:
        The picture.
    """
    rows, across = values.shape
    left, top, right = 40.0, 30.0, WIDTH - 8.0
    width = (right - left) / across
    height = max(LOWEST, min(TALLEST, 300 / rows))
    bottom = top + rows * height
    corners = {
        (row, column): (left + column * width, bottom - (row + 1) * height)
        for row in range(rows)
        for column in range(across)
    }
    levels = level_of(values)
    gap = 1.0 if width > 8 else 0.0
    cells = [
        bar(
            x,
            y,
            x + width - gap,
            y + height - gap,
            f"level{levels[row, column]}",
            f"depth {row}, weight {plain(columns[column])}: {significant(float(values[row, column]), 4)} {unit}",
        )
        for (row, column), (x, y) in corners.items()
    ]
    centre = {cell: (x + (width - gap) / 2, y + (height - gap) / 2) for cell, (x, y) in corners.items()}
    radius = min(width, height) / 2
    marks = [_dot(*centre[cell], min(3.0, 0.5 * radius)) for cell in alike if cell != chosen]
    every = max(1, int(-(-(max(text_width(plain(value)) for value in columns) + 8) // width)))
    below = [
        label(centre[0, column][0], bottom + 16, plain(columns[column]), "tick", "middle")
        for column in range(across)
        if (column - chosen[1]) % every == 0
    ]
    stride = max(1, int(-(-14 // height)))
    beside = [label(left - 8, centre[row, 0][1] + 4, str(row), "tick", "end") for row in range(0, rows, stride)]
    return drawing(
        key,
        title,
        description,
        WIDTH,
        bottom + 118,
        label(0, 14, y_name, "axis"),
        *cells,
        *marks,
        _ring(*centre[chosen], min(8.0, 0.9 * radius)),
        *beside,
        *below,
        label((left + right) / 2, bottom + 34, x_name, "axis", "middle"),
        _legend(values, left, bottom + 52, unit, alike_name),
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


def _ring(x: float, y: float, radius: float) -> Markup:
    return element("circle", cx=x, cy=y, r=radius, class_="chosen")


def _dot(x: float, y: float, radius: float) -> Markup:
    return element("circle", cx=x, cy=y, r=radius, class_="alike")


def _legend(values: FloatArray, left: float, top: float, unit: str, alike_name: str) -> Markup:
    """Explain the steps and the two marks."""
    low, high = float(values.min()), float(values.max())
    width = (WIDTH - 8 - left) / len(LEVELS)
    ends = [low, *(low + share * (high - low) for share in LEVELS)]
    parts = []
    for number, (share, end) in enumerate(zip(LEVELS, ends[1:], strict=True)):
        x = left + number * width
        parts.append(bar(x, top, x + width - 1, top + 12, f"level{number}"))
        parts.append(label(x + width - 1, top + 26, f"≤ {significant(end)}", "tick", "end"))
        parts.append(label(x + width - 1, top + 40, f"{100 * share:g} %", "tick", "end"))
    parts.append(label(0, top + 26, unit, "tick"))
    parts.append(label(0, top + 40, "range", "tick"))
    y = top + 58
    parts += [_ring(left + 8, y - 4, 6), label(left + 20, y, "chosen", "legend")]
    parts += [bar(left + 92, y - 12, left + 108, y + 3, "level0"), _dot(left + 100, y - 4, 3)]
    parts.append(label(left + 114, y, alike_name, "legend"))
    return Markup("").join(parts)
