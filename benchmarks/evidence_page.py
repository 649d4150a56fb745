"""docs/evidence.md, from what benchmarks/evidence.py has left in benchmarks/results/evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import evidence_comparisons as of_comparisons
import evidence_grids as of_grids
from evidence_grids import MEASURES
from markdown_tables import table

from forktail.grids.readings import default_reading

Result = Mapping[str, Any]


def page(results: Path) -> str:
    """Write the page.

    Args:
        results: Folder of the pieces' files.

    Returns:
        Markdown.
    """
    found = _read(results)
    grids, maps, curves, equal = (_of_kind(found, kind) for kind in ("grid", "map", "curve", "equal"))
    parts = [
        INTRODUCTION.format(reading=default_reading()),
        of_grids.readings(grids),
        of_grids.prediction(grids),
        of_grids.ablation(grids),
        of_grids.dial(grids),
        of_grids.separations(_of_kind(found, "separation"), grids),
        of_grids.drift(grids),
        *(of_comparisons.curve(name, result) for name, result in curves.items()),
        *(of_comparisons.options(kind, _of_kind(found, kind)) for kind in of_comparisons.HEADINGS),
        of_comparisons.equal_compute(equal),
        of_grids.strengths(maps),
        _pieces(found),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


INTRODUCTION = """# Evidence

Does the criterion predict which shared depth and weight are good, and does OSDTW win at equal compute? Measures are
defined in [grid.md](grid.md). Readings of the criterion are chosen by the *validation* part of the development sets;
the test part of the confirmation sets is read once, for the default, `{reading}`. Means over seeds with Student's 95 %
interval; accuracies, regrets and gains in points. [when.md](when.md) says what follows for a user.

Every set was named before it was run, and none was dropped after its result was seen. Cut for their hours, before they
were run: grids of glyphs-10 and fashion-10 with a long Stage 1 alone, that of glyphs-10 with the paper's options, the
grid of glyphs-100, the comparison on glyphs-50, GPaCo in comparisons, two corners of the map, and weights of some
grids. Added after the first grids of development: lighter dampings, shorter stages and averaged weights, and
fashion-10-converged, none of which looks at a set that confirms. "How far apart head and tail go" does, and says so.
The Fashion-MNIST sets differ in their training images; their test pictures are the same, also in
[comparison.md](comparison.md). A gain of a set with one weight is 0 by construction.

Written by `python benchmarks/evidence.py --tables` from `benchmarks/results/evidence`."""


def summary(results: Path) -> str:
    """Write what the README claims: of the sets that confirm, on test.

    Args:
        results: Folder of the pieces' files.

    Returns:
        Two tables in Markdown, of those pieces that are there.
    """
    found = {name: result for name, result in _read(results).items() if result["role"] == "confirmation"}
    grids, equal = _of_kind(found, "grid"), _of_kind(found, "equal")
    measures = ("spearman_risk", "search_regret", "oracle_regret", "gain")
    rows = [[name, *of_grids.on_test(result, measures)] for name, result in grids.items()]
    parts = [table(["the criterion on", *(MEASURES[key][0] for key in measures)], rows)] if grids else []
    return "\n\n".join([*parts, *([table(*of_comparisons.best_baselines(equal))] if equal else [])])


def _read(results: Path) -> dict[str, Result]:
    """Read the pieces that are there, by name; the numbers in names count as numbers."""

    def order(path: Path) -> list[tuple[str, int]]:
        return [(text, int(number or 0)) for text, number in re.findall(r"(\D+)(\d*)", path.stem)]

    return {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"), key=order)
    }


def _of_kind(found: Mapping[str, Result], kind: str) -> dict[str, Result]:
    """Pick the pieces of one kind, by the name of their set."""
    return {name.removeprefix(f"{kind}-"): of for name, of in found.items() if name.startswith(f"{kind}-")}


def _pieces(found: Mapping[str, Result]) -> str:
    lines = [
        [f"`{name}`", result["role"], f"{result['cpu_hours']:.2f}", f"`python benchmarks/evidence.py {name}`"]
        for name, result in found.items()
    ]
    total = sum(result["cpu_hours"] for result in found.values())
    said = f"{total:.1f} CPU hours of training and analyses; what two pieces share is in both."
    return f"## What was run\n\n{said}\n\n" + table(["piece", "role", "CPU hours", "command"], lines)
