"""The one rule by which class folders, class names and files are sorted."""

from __future__ import annotations

import re
import unicodedata

NaturalKey = tuple[tuple[str | tuple[int, str], ...], str]


def natural_key(name: str) -> NaturalKey:
    """Sort key that reads runs of digits as numbers and ignores case; the spelling itself decides ties.

    Composed and decomposed accents are equal (file systems differ in which they give back), so the order is the same
    on every machine.

    Args:
        name: A file or class name; of a path, each part is compared by itself if ``/`` separates them.

    Returns:
        A key that is different for different names.

    Example:
        >>> sorted(["10_x", "2_x", "b", "A", "é", "02_x"], key=natural_key)
        ['02_x', '2_x', '10_x', 'A', 'b', 'é']
    """
    parts: list[str | tuple[int, str]] = []
    # "/" sorts before every other character, so that a folder's files stay together.
    text = unicodedata.normalize("NFC", name).casefold().replace("/", "\0")
    for place, run in enumerate(re.split("([0-9]+)", text)):
        # Runs alternate, text first, so text meets text and number meets number in a comparison.
        digits = run.lstrip("0")
        parts.append((len(digits), digits) if place % 2 else run)
    return tuple(parts), name
