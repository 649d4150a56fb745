"""What tells series apart: a colour, and always a shape or a dash beside it."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from forktail.report.charts.svg import element, label, line, text_width, tipped

STYLES = 6  # colours of the page's style sheet, shapes and dashes
LEGEND_LINE = 20  # pixels

_DASHES = (None, "7 4", "2 3", "9 3 2 3", "1 4", "12 4")
_SHAPES = (
    None,  # a circle
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.25), (1.2, 0.95), (-1.2, 0.95)),
    ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    ((0, 1.25), (1.2, -0.95), (-1.2, -0.95)),
    (
        *((-0.45, -1.3), (0.45, -1.3), (0.45, -0.45), (1.3, -0.45), (1.3, 0.45), (0.45, 0.45)),
        *((0.45, 1.3), (-0.45, 1.3), (-0.45, 0.45), (-1.3, 0.45), (-1.3, -0.45), (-0.45, -0.45)),
    ),
)


def colour(style: int) -> str:
    """Name the class of a style's colour.

    Args:
        style: Number of the style; beyond the last they repeat.

    Returns:
        ``s1`` to ``s6``.
    """
    return f"s{style % STYLES + 1}"


def dash(style: int) -> str | None:
    """Return the dash pattern of a style's lines.

    Args:
        style: Number of the style.

    Returns:
        An SVG dash pattern; None is a solid line.
    """
    return _DASHES[style % STYLES]


def marker(x: float, y: float, style: int, size: float = 4, kind: str = "mark", tip: str | None = None) -> Markup:
    """Draw a point.

    Args:
        x: Its centre.
        y: Its centre.
        style: Decides shape and colour.
        size: About half its width.
        kind: Class that styles it.
        tip: What a pointer is told.

    Returns:
        A ``circle`` or a ``polygon`` element.
    """
    shape = _SHAPES[style % STYLES]
    said = {"class_": f"{kind} {colour(style)}"}
    if shape is None:
        return element("circle", *tipped(tip), cx=x, cy=y, r=size, **said)
    corners = " ".join(f"{x + size * across:.1f},{y + size * down:.1f}" for across, down in shape)
    return element("polygon", *tipped(tip), points=corners, **said)


def legend(entries: Sequence[tuple[str, int]], left: float, right: float, *, lines: bool) -> tuple[Markup, float]:
    """Name the series in as many lines as they take, from the top of the picture.

    Args:
        entries: Name and style of each series.
        left: Left edge.
        right: Right edge.
        lines: Show each series' line as well as its point.

    Returns:
        The legend and its height in pixels.
    """
    sample = 26 if lines else 14
    parts: list[Markup] = []
    x, y = left, 12.0
    for name, style in entries:
        width = sample + 6 + text_width(name) + 16
        if x > left and x + width > right:
            x, y = left, y + LEGEND_LINE
        if lines:
            across = line(x, y - 4, x + sample, y - 4, f"line {colour(style)}")
            parts.append(across if dash(style) is None else _dashed(x, y - 4, sample, style))
        parts.append(marker(x + sample / 2, y - 4, style))
        parts.append(label(x + sample + 6, y, name, "legend"))
        x += width
    return Markup("").join(parts), y + 8


def _dashed(x: float, y: float, width: float, style: int) -> Markup:
    return element("line", x1=x, y1=y, x2=x + width, y2=y, class_=f"line {colour(style)}", stroke_dasharray=dash(style))
