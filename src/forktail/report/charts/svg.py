"""SVG elements as escaped markup."""

from __future__ import annotations

import unicodedata

from markupsafe import Markup

from forktail.report.names import shortened

LETTER = 7.3  # mean advance in pixels of a letter of 12 px in a wide face


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """Make one element; every text in it is escaped.

    Args:
        tag: Its name.
        *children: Markup, or text.
        **attributes: By name; ``_`` stands for ``-``, a last ``_`` is dropped, None is left out.

    Returns:
        The element.

    Example:
        >>> element("text", "<&>", x=1.50, class_="name", text_anchor=None)
        Markup('<text x="1.5" class="name">&lt;&amp;&gt;</text>')
    """
    said = [
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), value if isinstance(value, str) else pixel(value))
        for name, value in attributes.items()
        if value is not None
    ]
    return Markup("<{0}{1}>{2}</{0}>").format(tag, Markup("").join(said), Markup("").join(children))


def pixel(value: float) -> str:
    """Write a coordinate, to a hundredth of a pixel.

    Args:
        value: Pixels.

    Returns:
        The shortest form.

    Example:
        >>> pixel(10), pixel(2.999), pixel(-0.001)
        ('10', '3', '0')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def drawing(key: str, title: str, description: str, width: float, height: float, *parts: Markup) -> Markup:
    """Put parts together to a picture with a text alternative.

    Args:
        key: Names the picture in the page.
        title: What it is.
        description: What it shows, in a sentence for those who cannot see it.
        width: Pixels of its own coordinates.
        height: Pixels of its own coordinates.
        *parts: What is drawn.

    Returns:
        An ``svg`` element.
    """
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-desc"),
        *parts,
        class_="chart",
        role="img",
        aria_labelledby=f"{key}-title",
        aria_describedby=f"{key}-desc",
        viewBox=f"0 0 {pixel(width)} {pixel(height)}",
        width=width,
        height=height,
    )


def label(x: float, y: float, text: str, kind: str = "tick", anchor: str | None = None) -> Markup:
    """Write a text.

    Args:
        x: Where it is anchored.
        y: Its baseline.
        text: The text.
        kind: Class that styles it.
        anchor: ``middle`` or ``end``; None is the start.

    Returns:
        A ``text`` element.
    """
    return element("text", text, x=x, y=y, class_=kind, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Draw a line.

    Args:
        x1: Start.
        y1: Start.
        x2: End.
        y2: End.
        kind: Class that styles it.

    Returns:
        A ``line`` element.
    """
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def bar(x1: float, y1: float, x2: float, y2: float, kind: str, tip: str | None = None) -> Markup:
    """Draw a filled rectangle between two corners, whichever they are.

    Args:
        x1: One corner.
        y1: One corner.
        x2: The other.
        y2: The other.
        kind: Class that styles it.
        tip: What a pointer is told.

    Returns:
        A ``rect`` element.
    """
    return element(
        "rect",
        *tipped(tip),
        x=min(x1, x2),
        y=min(y1, y2),
        width=abs(x2 - x1),
        height=abs(y2 - y1),
        class_=kind,
    )


def tipped(tip: str | None) -> list[Markup]:
    """Return what shows a text to a pointer, as the child of an element.

    Args:
        tip: The text.

    Returns:
        One ``title`` element, or none.
    """
    return [] if tip is None else [element("title", tip)]


def text_width(text: str) -> float:
    """Estimate how wide a text of 12 px is; wide scripts count double.

    Args:
        text: One line.

    Returns:
        Pixels.
    """
    return LETTER * sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def fitting(text: str, width: float) -> str:
    """Cut a text to a width; its middle goes, since names often differ at their ends.

    Args:
        text: One line.
        width: Pixels, enough for three letters.

    Returns:
        The text, or its two ends round an ellipsis.

    Example:
        >>> fitting("abcdefghij", 40)
        'ab…ij'
    """
    limit, short = len(text), text
    while text_width(short) > width and limit > 3:
        limit -= 1
        short = shortened(text, limit)
    return short
