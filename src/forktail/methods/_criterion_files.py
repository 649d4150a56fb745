"""The criterion as files of a run."""

from __future__ import annotations

import csv
import io
from typing import Any

from forktail.fisher.moments import Moments
from forktail.theory import CriterionTable, Uncertainty


def as_csv(table: CriterionTable | Uncertainty) -> str:
    """Write a table with one line per depth and weight.

    Args:
        table: The criterion, alone or with its standard errors.

    Returns:
        Comma-separated values under a line of names.
    """
    text, rows = io.StringIO(), list(table.rows())
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def by_layer(measured: Moments) -> list[dict[str, Any]]:
    """Sum up what was measured, layer by layer, for the report; the decoders of both tasks are one row.

    Args:
        measured: The moments.

    Returns:
        One row per layer, ready for JSON.
    """
    names = ["stem", *(f"unit {number}" for number in range(1, len(measured.units)))]
    rows = [
        {"layer": layer, "name": name} | unit.summary()
        for layer, (name, unit) in enumerate(zip(names, measured.units, strict=True))
    ]
    each = [decoder.summary() for decoder in measured.decoders]
    sums = {key: [value for summary in each for value in summary[key]] for key in ("curvature", "scores")}
    parameters = sum(decoder.num_coordinates for decoder in measured.decoders) // len(each)  # of one task's
    decoder = {"layer": len(rows), "name": "decoder", "parameters": parameters, **sums}
    return [*rows, decoder | {"distance": None, "mismatch": None}]
