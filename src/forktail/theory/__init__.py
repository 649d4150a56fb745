"""The selection criterion of docs/theory.md: how much to share, and with which task weights. NumPy alone, no torch."""

from __future__ import annotations

from forktail.theory.criterion import READINGS, CriterionTable, criterion_table
from forktail.theory.damping import movement_damping
from forktail.theory.moments import UnitMoments
from forktail.theory.selection import Cell, Selection, select

__all__ = [
    "READINGS",
    "Cell",
    "CriterionTable",
    "Selection",
    "UnitMoments",
    "criterion_table",
    "movement_damping",
    "select",
]
