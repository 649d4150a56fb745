"""docs/evidence.png: what was measured of the cells of three grids, and what the criterion says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from forktail.grids.readings import default_reading

SHOWN = ("fashion-50", "glyphs-50", "wordnet-gloss")


def draw(results: Path, path: Path) -> None:
    """Draw accuracy and risk over the weight, and the criterion against the risk. Needs matplotlib.

    Args:
        results: Folder of the pieces' files; the grids that are there are drawn.
        path: Where the picture goes.
    """
    files = {name: results / f"grid-{name}.json" for name in SHOWN}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}
    if not found:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(3, len(found), figsize=(4 * len(found), 9), layout="constrained", squeeze=False)
    for column, (name, result) in enumerate(found.items()):
        _over_weights(grid[0, column], result, "balanced accuracy, %")
        _over_weights(grid[1, column], result, "risk, nats")
        _against_risk(grid[2, column], result)
        grid[0, column].set_title(name)
        grid[0, column].legend(frameon=False, fontsize=8)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _over_weights(axes: Any, result: Mapping[str, Any], what: str) -> None:
    """Draw a line for each depth: means over seeds, refined, on test. What shares nothing has no weight."""
    for depth, colour in zip(result["depths"], _colours(result), strict=True):
        cells = [cell for cell in result["cells"] if cell["depth"] == depth]
        weights = sorted({cell["weight"] for cell in cells if cell["weight"] is not None})
        if weights:
            means = [np.mean([_of(cell, result, what) for cell in cells if cell["weight"] == w]) for w in weights]
            axes.plot(weights, means, "o-", ms=3.5, color=colour, label=f"s = {depth}")
        else:
            axes.axhline(np.mean([_of(cell, result, what) for cell in cells]), ls=":", color=colour, label="s = 0")
    axes.set(xlabel="w, the head's weight", ylabel=what)


def _of(cell: Mapping[str, Any], result: Mapping[str, Any], what: str) -> float:
    measured = cell["refined"]["test"]
    value: float = measured["risk"] if what == "risk, nats" else 100 * measured[result["rule"]]["balanced"]
    return value


def _against_risk(axes: Any, result: Mapping[str, Any]) -> None:
    """Draw every cell of every seed: K against its measured risk."""
    axes.set(xlabel="K, nats", ylabel="risk, nats")
    by_seed = result["predicted"].get(default_reading(), {})
    tables = {seed: by_seed.get(str(seed), {}).get("table") for seed in result["seeds"]}
    if any(table is None for table in tables.values()):
        axes.text(0.5, 0.5, "the criterion has no numbers", ha="center", transform=axes.transAxes)
        return
    for depth, colour in zip(result["depths"], _colours(result), strict=True):
        cells = [cell for cell in result["cells"] if cell["depth"] == depth]
        # A table is of all depths 0..L; depth 0 is flat in the weight.
        columns = [0 if cell["weight"] is None else result["weights"].index(cell["weight"]) for cell in cells]
        predicted = [tables[cell["seed"]][depth][column] for cell, column in zip(cells, columns, strict=True)]
        axes.scatter(predicted, [cell["refined"]["test"]["risk"] for cell in cells], s=14, color=colour)


def _colours(result: Mapping[str, Any]) -> list[Any]:
    import matplotlib as mpl

    return ["#8a94a0", *mpl.colormaps["viridis"](np.linspace(0.85, 0.15, len(result["depths"]) - 1))]
