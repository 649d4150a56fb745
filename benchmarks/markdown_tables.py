"""Markdown of the pages that are made of results: tables, numbers, intervals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NONE = "none"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table; what is empty is one blank."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(re.sub(r"\s+\|", " |", f"| {' | '.join(str(cell) for cell in line)} |") for line in lines)


def interval(found: Mapping[str, Any], digits: int) -> str:
    """Write a mean with its interval, where it has one."""
    if found["mean"] is None:
        return NONE
    said = number(found["mean"], digits)
    if found["low"] is None or found["high"] is None:
        return said
    return f"{said} ({number(found['low'], digits)} to {number(found['high'], digits)})"


def number(value: float | None, digits: int) -> str:
    """Write a number, or that there is none."""
    return NONE if value is None else f"{value:.{digits}f}"
