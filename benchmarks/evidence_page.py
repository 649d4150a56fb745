"""docs/evidence.md, from what benchmarks/evidence.py has left in benchmarks/results/evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from evidence_figure import SHOWN

from forktail.cli.grid_table import place
from forktail.comparing.statistics import paired_difference
from forktail.grids.readings import READINGS, default_reading

Result = Mapping[str, Any]

MEASURES = {
    "spearman_risk": ("Spearman, risk", 2),
    "spearman_risk_of_weights": ("of weights", 2),
    "spearman_risk_of_depths": ("of depths", 2),
    "spearman": ("Spearman, error", 2),
    "kendall": ("Kendall, error", 2),
    "search_regret": ("regret to a search", 1),
    "oracle_regret": ("regret to the oracle", 1),
    "gain": ("gain", 1),
}
ABLATION = {"gain_depth_alone": "depth alone", "gain_weight_alone": "weight alone", "gain": "both"}
NONE = "none"


def page(results: Path) -> str:
    """Write the page.

    Args:
        results: Folder of the pieces' files.

    Returns:
        Markdown.
    """
    found = _read(results)
    grids = {name: result for name, result in found.items() if name.startswith("grid-")}
    maps = {name: result for name, result in found.items() if name.startswith("map-")}
    parts = [INTRODUCTION.format(reading=default_reading())]
    if grids:
        parts += [_readings(grids), _prediction(grids), _ablation(grids), _dial(grids), _drift(grids)]
    parts += [_curve(name, result) for name, result in found.items() if name.startswith("curve-")]
    parts += [_options(kind, {n: found[n] for n in found if n.startswith(f"{kind}-")}) for kind in HEADINGS]
    equal = {name: result for name, result in found.items() if name.startswith("equal-")}
    parts += [_equal(equal)] if equal else []
    parts += [_map(maps)] if maps else []
    parts.append(_pieces(found))
    return "\n\n".join(part for part in parts if part) + "\n"


INTRODUCTION = """# Evidence

Does the criterion predict which shared depth and weight are good, and does OSDTW win at equal compute? Measures are
defined in [grid.md](grid.md). Readings of the criterion are chosen by the *validation* part of the development sets;
the test part of the confirmation sets is read once, for the default, `{reading}`. Means over seeds with Student's 95 %
interval; accuracies, regrets and gains in points. [when.md](when.md) says what follows for a user.

Every set was named before it was run, and none was dropped after its result was seen. Cut for their hours, before they
were run: grids of glyphs-10 and fashion-10 with a long Stage 1 alone, that of glyphs-10 with the paper's options, the
grid of glyphs-100, the comparison on glyphs-50, GPaCo in comparisons, and weights of some grids. Added after the first
grids of development: lighter dampings, shorter stages and averaged weights, and fashion-10-converged, none of which
looks at a set that confirms.

Written by `python benchmarks/evidence.py --tables` from `benchmarks/results/evidence`."""


def summary(results: Path) -> str:
    """Write what the README claims: of the sets that confirm, on test.

    Args:
        results: Folder of the pieces' files.

    Returns:
        Two tables in Markdown, of those pieces that are there.
    """
    found = _read(results)
    found = {name: result for name, result in found.items() if result["role"] == "confirmation"}
    grids = {name: result for name, result in found.items() if name.startswith("grid-")}
    equal = {name: result for name, result in found.items() if name.startswith("equal-")}
    measures = ("spearman_risk", "search_regret", "oracle_regret", "gain")
    rows = [[name.removeprefix("grid-"), *_on_test(result, measures)] for name, result in grids.items()]
    parts = [_table(["the criterion on", *(MEASURES[key][0] for key in measures)], rows)] if rows else []
    return "\n\n".join([*parts, *([_table(*_best_baselines(equal))] if equal else [])])


def _read(results: Path) -> dict[str, Result]:
    """Read the pieces that are there, by name; the numbers in names count as numbers."""

    def order(path: Path) -> list[tuple[str, int]]:
        return [(text, int(number or 0)) for text, number in re.findall(r"(\D+)(\d*)", path.stem)]

    return {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"), key=order)
    }


def _on_test(result: Result, measures: Sequence[str], state: str = "refined") -> list[str]:
    """Write measures of the default reading on test; where there are none, the reason stands in their place."""
    record = _record(result, default_reading(), state, "test")
    if record is None or "reason" in record:
        return ["no numbers" if record is None else record["reason"], *[NONE] * (len(measures) - 1)]
    return [_interval(record[key], MEASURES[key][1]) for key in measures]


def _best_baselines(equal: Mapping[str, Result]) -> tuple[list[str], list[list[str]]]:
    """Set `osdtw` beside the baseline with the highest mean on test, the hardest to beat."""
    rows = []
    for name, result in equal.items():
        by = _by_seed(result)
        own, others = by.get("osdtw"), [label for label in by if not label.startswith("osdtw")]
        best = max(others, key=lambda label: np.mean(by[label]), default=None)
        over = NONE if own is None or best is None else _interval(_points(paired_difference(own, by[best])), 1)
        said = [NONE if own is None else _percent(own), NONE if best is None else f"{_percent(by[best])} (`{best}`)"]
        rows.append([name.removeprefix("equal-"), _length(result), *said, over])
    return ["at equal compute on", "epochs", "`osdtw`", "best baseline on test", "difference"], rows


def _by_seed(result: Result) -> dict[str, list[float]]:
    return {row["label"]: [run["balanced"] for run in row["per_seed"]] for row in result["methods"]}


def _length(result: Result) -> str:
    return f"{result['epochs']}{', still rising' if result['curve_rises'] else ''}"


def _percent(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.1f}"


def _readings(grids: Mapping[str, Result]) -> str:
    """Rank the readings by the validation part of the development sets."""
    rows = ranking(grids)
    if not rows:
        return ""
    sets = [name.removeprefix("grid-") for name in grids if grids[name]["role"] == "development"]
    head = ["reading", *sets, "mean", "of weights", "of depths", "regret"]
    lines = [
        [f"`{row.reading}`", *(_number(one, 2) for one in (*row.by_set, *row.overall)), _number(row.regret, 1)]
        for row in rows
    ]
    return f"## Which reading\n\n{READING}\n\n{_table(head, lines)}"


@dataclass(frozen=True)
class Ranked:
    """What a reading is worth on the validation part of the development sets.

    Args:
        reading: Its name.
        by_set: Spearman correlation with the risk, by set.
        overall: Means over sets of that, of that among the cells of one depth, and among those of one weight.
        regret: What a search has over the selected cell, mean over sets, in points.
    """

    reading: str
    by_set: list[float | None]
    overall: list[float | None]
    regret: float | None


def ranking(grids: Mapping[str, Result]) -> list[Ranked]:
    """Order the readings as the default is chosen.

    Args:
        grids: Results of grids; those of development count.

    Returns:
        The best first; of those that are level to the digits that the page shows, the one that needs least.
    """
    development = [result for result in grids.values() if result["role"] == "development"]
    rows = []
    for reading in READINGS:
        records = [_record(result, reading, "refined", "validation") for result in development]
        if all(record is None for record in records):
            continue
        by_set = [_mean(record, "spearman_risk") for record in records]
        others = ("spearman_risk_of_weights", "spearman_risk_of_depths", "search_regret")
        weights, depths, regret = (_overall([_mean(record, key) for record in records]) for key in others)
        rows.append(Ranked(reading, by_set, [_overall(by_set), weights, depths], regret))

    def key(row: Ranked) -> tuple[float, float]:
        regret, order = row.regret, row.overall[0]
        return np.inf if regret is None else round(regret, 1), np.inf if order is None else -round(order, 2)

    return sorted(rows, key=key)


READING = """Spearman correlation with the validation risk of the refined networks: of all cells, and on average over
sets of the cells of one depth ("of weights") and of one weight ("of depths"); and what a grid search on validation
would have over the selected cell, in points. The default is the first: it loses least to the search, of those that lose
as little it orders best, and of those that order as well, to two digits, it needs fewest covariances."""


def _mean(record: Mapping[str, Any] | None, measure: str) -> float | None:
    return None if record is None or "reason" in record else record[measure]["mean"]


def _overall(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _prediction(grids: Mapping[str, Result]) -> str:
    text = "## Does it predict\n\nThe default reading, on test."
    for state in ("refined", "raw"):
        rows = [
            [name.removeprefix("grid-"), result["role"], *_on_test(result, list(MEASURES), state)]
            for name, result in grids.items()
        ]
        head = ["set", "role", *(title for title, _ in MEASURES.values())]
        text += f"\n\nNetworks {state}:\n\n{_table(head, rows)}"
    shown = [name for name in SHOWN if f"grid-{name}" in grids]
    return f"{text}\n\n{PICTURE}\n\n![{', '.join(shown)}](evidence.png)" if shown else text


PICTURE = """Refined networks on test: accuracy and risk over the weight, a line for each depth, mean over seeds; and K
against the risk, a point for each cell of each seed. Where a criterion predicts, its points lie on a rising line."""


def _ablation(grids: Mapping[str, Result]) -> str:
    rows = []
    for name, result in grids.items():
        record = _record(result, default_reading(), "refined", "test")
        if record is not None and "reason" not in record:
            rows.append([name.removeprefix("grid-"), *(_interval(record[key], 1) for key in ABLATION)])
    head = ["set", *ABLATION.values()]
    return "## Depth alone, weight alone, both\n\nPoints over full sharing at weight 1/2.\n\n" + _table(head, rows)


def _dial(grids: Mapping[str, Result]) -> str:
    """Lay the dial's settings side by side: where the best depth lies, and where the criterion says that it lies."""
    dial = sorted(
        ((int(name.rpartition("-")[2]), grids[name]) for name in grids if re.fullmatch(r"grid-mismatch-\d+", name)),
        key=lambda setting: setting[0],
    )
    if not dial:
        return ""
    rows = []
    for percent, result in dial:
        record = _record(result, default_reading(), "refined", "test")
        selected = [] if record is None or "reason" in record else [one["selected"] for one in record["by_seed"]]
        rows.append(
            [
                f"{percent / 100:g}",
                _best(result),
                "; ".join(dict.fromkeys(place(**one) for one in selected)) or NONE,
                *_by_depth(result),
            ]
        )
    depths = [f"s = {depth}" for depth in dial[0][1]["depths"]]
    return (
        "## Where head and tail differ\n\nGlyphs whose tail is drawn ever more differently. Best cell of the refined"
        " networks on test, mean over seeds; cells that the criterion selects; balanced accuracy at weight 1/2. The"
        " setting 0.5 is one of development, with other pictures and more weights.\n\n"
        + _table(["mismatch", "best (s, w)", "selected (s, w)", *depths], rows)
    )


def _drift(grids: Mapping[str, Result]) -> str:
    """Say how far Stage 2 ended from Stage 1 at weight 1/2, layer by layer."""
    rows = []
    for name, result in grids.items():
        layers = [one["layers"] for one in result["drift"] if one["weight"] == 0.5]
        means = [None if None in values else float(np.mean(values)) for values in zip(*layers, strict=True)]
        rows.append([name.removeprefix("grid-"), *(_number(value, 2) for value in means)])
    most = max(len(row) for row in rows)
    head = ["set", "stem", *(f"unit {number}" for number in range(1, most - 1))]
    return (
        "## Where Stage 2 ends\n\nDrift at weight 1/2 ([grid.md](grid.md), eq. 7a): from 0.5 half way to 1 at either"
        " end it lies between the Stage-1 solutions, as the criterion supposes; above 1 it is elsewhere.\n\n"
        + _table(head, ([*row, *[""] * (most - len(row))] for row in rows))
    )


def mean_error(result: Result, state: str = "refined", split: str = "test") -> np.ndarray:
    """Average the measured error over seeds.

    Args:
        result: A grid.
        state: ``raw`` or ``refined``.
        split: ``validation`` or ``test``.

    Returns:
        (D, W) one minus balanced accuracy; the row of depth 0 is one value.
    """
    depths, weights = result["depths"], result["weights"]
    sums, seen = np.zeros((len(depths), len(weights))), np.zeros((len(depths), len(weights)))
    for cell in result["cells"]:
        column = slice(None) if cell["weight"] is None else weights.index(cell["weight"])
        sums[depths.index(cell["depth"]), column] += 1 - cell[state][split][result["rule"]]["balanced"]
        seen[depths.index(cell["depth"]), column] += 1
    return sums / seen


def _best(result: Result) -> str:
    """Name the best cell of the refined networks on test, mean over seeds."""
    error = mean_error(result)
    row, column = np.unravel_index(int(error.argmin()), error.shape)
    return place(result["depths"][row], result["weights"][column] if result["depths"][row] else None)


def _by_depth(result: Result) -> list[str]:
    """Write the balanced accuracy of the refined networks on test at weight 1/2, mean over seeds."""
    error = mean_error(result)[:, result["weights"].index(0.5)]
    return [f"{100 * (1 - one):.1f}" for one in error]


def _curve(name: str, result: Result) -> str:
    lengths = sorted({row["epochs"] for row in result["rows"]})
    lines = []
    for method in dict.fromkeys(row["method"] for row in result["rows"]):
        cells = []
        for epochs in lengths:
            values = [row["validation"] for row in result["rows"] if (row["method"], row["epochs"]) == (method, epochs)]
            cells.append(f"{100 * sum(values) / len(values):.1f}")
        lines.append([f"`{method}`", *cells])
    title = f"## How long: {name.removeprefix('curve-')}\n\nBalanced accuracy on validation by epochs of training."
    return f"{title}\n\n{_table(['method', *map(str, lengths)], lines)}"


HEADINGS = {
    "variants": "## Which options\n\nEach option alone, beside two baselines. Without damping the weight is 1/2.",
    "stages": "## Shorter stages, averaged weights\n\nWhat Stage 1 and the refinement spend goes to Stage 2, or the"
    " weights of the last quarter of the steps are averaged.",
}


def _options(kind: str, found: Mapping[str, Result]) -> str:
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
            line += [_number(value, 1), over]
        lines.append(line)
    over = f"over `{reference}`"
    head = ["method", *(title for name in found for title in (name.removeprefix(f"{kind}-"), over))]
    first = next(iter(found.values()))
    seeds = len({row["seed"] for row in first["rows"]})
    measured = (
        f"Balanced accuracy on validation at equal compute, {first['epochs']} epochs of cross-entropy, mean of {seeds}"
        " seeds. Nothing here has seen test."
    )
    return f"{HEADINGS[kind]} {measured}\n\n{_table(head, lines)}{_left_out(found)}"


def _equal(equal: Mapping[str, Result]) -> str:
    """Compare at equal compute: accuracies, and what osdtw has over each of the others, seed by seed."""
    methods = list(dict.fromkeys(row["label"] for result in equal.values() for row in result["methods"]))
    others = [method for method in methods if method != "osdtw"]
    accuracies, gains = [], []
    for name, result in equal.items():
        by = _by_seed(result)
        title = [name.removeprefix("equal-"), _length(result)]
        accuracies.append([*title, *(_percent(by[m]) if m in by else NONE for m in methods)])
        if "osdtw" in by:
            found = {m: paired_difference(by["osdtw"], by[m]) for m in others if m in by}
            gains.append([title[0], *(_interval(_points(found[m]), 1) if m in found else NONE for m in others)])
    return (
        "## At equal compute\n\nBalanced accuracy on test, mean over seeds; every method may use what so many epochs of"
        " cross-entropy take.\n\n"
        + _table(["set", "epochs", *(f"`{method}`" for method in methods)], accuracies)
        + "\n\nWhat `osdtw` has over each, in points, paired by seed:\n\n"
        + _table(["set", *(f"over `{method}`" for method in others)], gains)
        + _left_out(equal)
    )


def _left_out(found: Mapping[str, Result]) -> str:
    return "".join(
        f"\n\nLeft out of {name.partition('-')[2]}: `{run['label']}`, seed {run['seed']}: {run['reason']}"
        for name, result in found.items()
        for run in result["left_out"]
    )


def _map(maps: Mapping[str, Result]) -> str:
    lines = []
    for strength, _, result in sorted(
        ((*_strength(name), result) for name, result in maps.items()), key=lambda one: one[:2]
    ):
        record = _record(result, default_reading(), "refined", "test")
        known = record is not None and "reason" not in record
        lines.append(
            [
                strength,
                result["training_images"],
                _best(result),
                *_by_depth(result),
                _interval(record["spearman_risk"], 2) if known and record is not None else NONE,
            ]
        )
    depths = [f"s = {depth}" for depth in next(iter(maps.values()))["depths"]]
    head = ["pretraining", "images", "best (s, w)", *depths, "Spearman, risk"]
    return (
        "## Pretraining and number of images\n\nGlyphs of imbalance 10 by quality of the pretrained weights and number"
        " of images; balanced accuracy of the refined networks on test at weight 1/2.\n\n" + _table(head, lines)
    )


def _strength(name: str) -> tuple[str, int]:
    _, strength, size = name.split("-")
    return strength, int(size)


def _pieces(found: Mapping[str, Result]) -> str:
    lines = [
        [f"`{name}`", result["role"], f"{result['cpu_hours']:.2f}", f"`python benchmarks/evidence.py {name}`"]
        for name, result in found.items()
    ]
    total = sum(result["cpu_hours"] for result in found.values())
    said = f"{total:.1f} CPU hours of training and analyses; what two pieces share is in both."
    return f"## What was run\n\n{said}\n\n" + _table(["piece", "role", "CPU hours", "command"], lines)


def _record(result: Result, reading: str, state: str, split: str) -> dict[str, Any] | None:
    wanted = (reading, state, split)
    for record in result["measures"]:
        if (record["reading"], record["state"], record["split"]) == wanted:
            return dict(record)
    return None


def _points(found: Any) -> dict[str, Any]:
    return {key: None if found[key] is None else 100 * found[key] for key in ("mean", "low", "high")}


def _interval(found: Mapping[str, Any], digits: int) -> str:
    if found["mean"] is None:
        return NONE
    said = _number(found["mean"], digits)
    if found["low"] is None or found["high"] is None:
        return said
    return f"{said} ({_number(found['low'], digits)} to {_number(found['high'], digits)})"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
