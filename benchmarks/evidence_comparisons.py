"""What docs/evidence.md says of comparisons: how long, which options, and who is better at equal compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markdown_tables import NONE, interval, number, table

from forktail.comparing.statistics import paired_difference

Result = Mapping[str, Any]


def curve(name: str, result: Result) -> str:
    """Show how the baselines of a set improve with the length of training."""
    lengths = sorted({row["epochs"] for row in result["rows"]})
    lines = []
    for method in dict.fromkeys(row["method"] for row in result["rows"]):
        cells = []
        for epochs in lengths:
            values = [row["validation"] for row in result["rows"] if (row["method"], row["epochs"]) == (method, epochs)]
            cells.append(f"{100 * sum(values) / len(values):.1f}")
        lines.append([f"`{method}`", *cells])
    title = f"## How long: {name}\n\nBalanced accuracy on validation by epochs of training."
    return f"{title}\n\n{table(['method', *map(str, lengths)], lines)}"


HEADINGS = {
    "variants": "## Which options\n\nEach option alone, beside two baselines. Without damping the weight is 1/2.",
    "stages": "## Shorter stages, averaged weights\n\nWhat Stage 1 and the refinement spend goes to Stage 2, or the"
    " weights of the last quarter of the steps are averaged.",
}


def options(kind: str, found: Mapping[str, Result]) -> str:
    """Compare options of the method on validation, with what each has over the one with none of them."""
    if not found:
        return ""
    labels = list(dict.fromkeys(row["method"] for result in found.values() for row in result["rows"]))
    reference = min((label for label in labels if label.startswith("osdtw")), key=len)

    def of(name: str, label: str) -> float | None:
        values = [row["validation"] for row in found[name]["rows"] if row["method"] == label]
        return 100 * sum(values) / len(values) if values else None

    lines = []
    for label in labels:
        line = [f"`{label}`"]
        for name in found:
            value, base = of(name, label), of(name, reference)
            over = "" if label == reference or value is None or base is None else f"{value - base:+.1f}"
            line += [number(value, 1), over]
        lines.append(line)
    over = f"over `{reference}`"
    head = ["method", *(title for name in found for title in (name, over))]
    first = next(iter(found.values()))
    seeds = len({row["seed"] for row in first["rows"]})
    measured = (
        f"Balanced accuracy on validation at equal compute, {first['epochs']} epochs of cross-entropy, mean of {seeds}"
        " seeds. Nothing here has seen test."
    )
    return f"{HEADINGS[kind]} {measured}\n\n{table(head, lines)}{_left_out(found)}"


def equal_compute(equal: Mapping[str, Result]) -> str:
    """Compare at equal compute: accuracies, and what osdtw has over each of the others, seed by seed."""
    if not equal:
        return ""
    methods = list(dict.fromkeys(row["label"] for result in equal.values() for row in result["methods"]))
    others = [method for method in methods if method != "osdtw"]
    accuracies, gains = [], []
    for name, result in equal.items():
        by = _by_seed(result)
        title = [name, _length(result)]
        accuracies.append([*title, *(_percent(by[m]) if m in by else NONE for m in methods)])
        if "osdtw" in by:
            found = {m: paired_difference(by["osdtw"], by[m]) for m in others if m in by}
            gains.append([title[0], *(interval(_points(found[m]), 1) if m in found else NONE for m in others)])
    return (
        "## At equal compute\n\nBalanced accuracy on test, mean over seeds; every method may use what so many epochs of"
        " cross-entropy take.\n\n"
        + table(["set", "epochs", *(f"`{method}`" for method in methods)], accuracies)
        + "\n\nWhat `osdtw` has over each, in points, paired by seed:\n\n"
        + table(["set", *(f"over `{method}`" for method in others)], gains)
        + _left_out(equal)
    )


def best_baselines(equal: Mapping[str, Result]) -> tuple[list[str], list[list[str]]]:
    """Set `osdtw` beside the baseline with the highest mean on test, the hardest to beat."""
    rows = []
    for name, result in equal.items():
        by = _by_seed(result)
        own, others = by.get("osdtw"), [label for label in by if not label.startswith("osdtw")]
        best = max(others, key=lambda label: np.mean(by[label]), default=None)
        over = NONE if own is None or best is None else interval(_points(paired_difference(own, by[best])), 1)
        said = [NONE if own is None else _percent(own), NONE if best is None else f"{_percent(by[best])} (`{best}`)"]
        rows.append([name, _length(result), *said, over])
    return ["at equal compute on", "epochs", "`osdtw`", "best baseline on test", "difference"], rows


def _left_out(found: Mapping[str, Result]) -> str:
    return "".join(
        f"\n\nLeft out of {name}: `{run['label']}`, seed {run['seed']}: {run['reason']}"
        for name, result in found.items()
        for run in result["left_out"]
    )


def _by_seed(result: Result) -> dict[str, list[float]]:
    return {row["label"]: [run["balanced"] for run in row["per_seed"]] for row in result["methods"]}


def _length(result: Result) -> str:
    return f"{result['epochs']}{', still rising' if result['curve_rises'] else ''}"


def _percent(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.1f}"


def _points(found: Any) -> dict[str, Any]:
    return {key: None if found[key] is None else 100 * found[key] for key in ("mean", "low", "high")}
