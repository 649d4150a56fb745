"""The selection criterion of docs/theory.md: how much to share, and with which task weights. NumPy alone, no torch."""

from __future__ import annotations

from forktail.theory.criterion import READINGS, CriterionTable, criterion_table
from forktail.theory.damping import movement_damping
from forktail.theory.gram import UnitGram, gram_table
from forktail.theory.jackknife import Uncertainty, jackknife
from forktail.theory.last_layers import last_layers_table
from forktail.theory.moments import UnitMoments
from forktail.theory.refined import CoupledMoments, refined_table
from forktail.theory.selection import Cell, Selection, select
from forktail.theory.stored import StoredUnit
from forktail.theory.table import binned_table

__all__ = [
    "READINGS",
    "Cell",
    "CoupledMoments",
    "CriterionTable",
    "Selection",
    "StoredUnit",
    "Uncertainty",
    "UnitGram",
    "UnitMoments",
    "binned_table",
    "criterion_table",
    "gram_table",
    "jackknife",
    "last_layers_table",
    "movement_damping",
    "refined_table",
    "select",
]
