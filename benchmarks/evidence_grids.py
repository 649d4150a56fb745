"""What docs/evidence.md says of the grids: which reading, whether it predicts, where it fails."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from evidence_figure import SHOWN
from evidence_sets import STRENGTHS
from markdown_tables import NONE, interval, number, table

from forktail.cli.grid_table import place
from forktail.comparing.statistics import paired_difference
from forktail.grids.measures import correlation
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
CHANCE = 0.01  # of the map: 100 classes
ABLATION = {"gain_depth_alone": "depth alone", "gain_weight_alone": "weight alone", "gain": "both"}


def readings(grids: Mapping[str, Result]) -> str:
    """Rank the readings by the validation part of the development sets."""
    rows = ranking(grids)
    if not rows:
        return ""
    sets = [name for name in grids if grids[name]["role"] == "development"]
    head = ["reading", *sets, "mean", "of weights", "of depths", "regret"]
    lines = [
        [f"`{row.reading}`", *(number(one, 2) for one in (*row.by_set, *row.overall)), number(row.regret, 1)]
        for row in rows
    ]
    return f"## Which reading\n\n{READING}\n\n{table(head, lines)}"


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
        records = [_record(result, reading, "validation") for result in development]
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
    return record[measure]["mean"] if _has_numbers(record) else None


def _overall(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def prediction(grids: Mapping[str, Result]) -> str:
    """Say how well the default reading orders the cells, and what its choice costs."""
    if not grids:
        return ""
    text = "## Does it predict\n\nThe default reading, on test."
    for state in ("refined", "raw"):
        rows = [[name, result["role"], *on_test(result, list(MEASURES), state)] for name, result in grids.items()]
        head = ["set", "role", *(title for title, _ in MEASURES.values())]
        text += f"\n\nNetworks {state}:\n\n{table(head, rows)}"
    shown = [name for name in SHOWN if name in grids]
    return f"{text}\n\n{PICTURE}\n\n![{', '.join(shown)}](evidence.png)" if shown else text


PICTURE = """Refined networks on test: accuracy and risk over the weight, a line for each depth, mean over seeds; and K
against the risk, a point for each cell of each seed. Where a criterion predicts, its points lie on a rising line."""


def on_test(result: Result, measures: Sequence[str], state: str = "refined") -> list[str]:
    """Write measures of the default reading on test; where there are none, the reason stands in their place."""
    record = _record(result, default_reading(), "test", state)
    if not _has_numbers(record):
        return ["no numbers" if record is None else record["reason"], *[NONE] * (len(measures) - 1)]
    return [interval(record[key], MEASURES[key][1]) for key in measures]


def ablation(grids: Mapping[str, Result]) -> str:
    """Say what the criterion's depth and its weight gain, each alone."""
    records = {name: _record(result, default_reading(), "test") for name, result in grids.items()}
    rows = [
        [name, *(interval(record[key], 1) for key in ABLATION)]
        for name, record in records.items()
        if _has_numbers(record)
    ]
    head = ["set", *ABLATION.values()]
    said = "## Depth alone, weight alone, both\n\nPoints over full sharing at weight 1/2."
    return f"{said}\n\n{table(head, rows)}" if rows else ""


def dial(grids: Mapping[str, Result]) -> str:
    """Lay the dial's settings side by side: where the best depth lies, and where the criterion says that it lies."""
    settings = {int(name.rpartition("-")[2]): grids[name] for name in grids if re.fullmatch(r"mismatch-\d+", name)}
    if not settings:
        return ""
    rows = [
        [f"{percent / 100:g}", _best(result), _selected(result), *_by_depth(result)]
        for percent, result in sorted(settings.items())
    ]
    depths = [f"s = {depth}" for depth in next(iter(settings.values()))["depths"]]
    return (
        "## Where head and tail differ\n\nGlyphs whose tail is drawn ever more differently. Best cell of the refined"
        " networks on test, mean over seeds; cells that the criterion selects; balanced accuracy at weight 1/2. The"
        " setting 0.5 is one of development, with other pictures and more weights.\n\n"
        + table(["mismatch", "best (s, w)", "selected (s, w)", *depths], rows)
    )


def separations(found: Mapping[str, Result], grids: Mapping[str, Result]) -> str:
    """Hold the distance of Stage 1's networks, in units of its chance, against what sharing is worth."""
    apart = {name: result["whole"] for name, result in found.items() if result["whole"] is not None}
    if not apart:
        return ""
    names = sorted(apart, key=apart.__getitem__)
    measured = [name for name in names if name in grids]
    worth = {name: _worth_of_sharing(grids[name]) for name in measured}
    said = {name: _said_of_sharing(grids[name]) for name in measured}
    rows = []
    for name in names:
        pairs = [number(one, 2) for one in (min(found[name]["pairs"]), max(found[name]["pairs"]))]
        known = [interval(worth[name], 1), number(said[name], 1)] if name in worth else [NONE, NONE]
        rows.append([name, f"{number(apart[name], 2)} ({' to '.join(pairs)})", *known])
    head = ["set", "separation", "sharing is worth, points", "by the criterion, nats"]
    orders = _orders({name: worth[name]["mean"] for name in measured}, apart, said)
    return f"{SEPARATION}\n\n{table(head, rows)}\n\n{orders}"


def _orders(worth: Mapping[str, float | None], apart: Mapping[str, float], said: Mapping[str, float | None]) -> str:
    """Say how well the separation and the criterion order the sets by what sharing is worth."""
    dial = [name for name in worth if name.startswith("mismatch")]
    others = [name for name in worth if name not in dial]
    rows = []
    for title, names in (("all", list(worth)), ("the dial, mismatch-*", dial), ("all others", others)):
        by = [[of[name] for name in names] for of in (apart, said)]
        true = np.array([worth[name] for name in names])
        orders = [None if None in one or not one else correlation(np.array(one), true) for one in by]
        rows.append([title, len(names), *(number(one, 2) for one in orders)])
    head = ["Spearman correlation with what sharing is worth, over", "sets", "separation", "the criterion"]
    return table(head, rows)


SEPARATION = """## How far apart head and tail go

Separation: squared distance of the Stage-1 networks of head and tail, in units of that of two trainings of the *same*
task that differ in their chance alone, over all layers that can be shared; near 1 where the tasks are the same to
training. Of the seeds of each grid together, and in brackets of each two of them, which is what a user's run measures
(`method.separation=true`). Beside it what sharing is worth: full sharing at weight 1/2 minus nothing shared, refined,
on test, at equal epochs, so that nothing shared had twice the training; and how much lower the criterion predicts the
risk of full sharing to be.

This was thought of when the grids of glyphs-10, the dial, fashion-10, fashion-50 and wordnet-gloss had been seen, and
the comparison on fashion-100; it reads their test part a second time, and nothing is chosen by it. The separations of
glyphs-50, glyphs-200 and glyphs-resnet stood here before their grids were seen. The number depends on the length of
Stage 1 and all else in the recipe: only sets of one recipe can be compared, such as those of the dial."""


def drift(grids: Mapping[str, Result]) -> str:
    """Say how far Stage 2 ended from Stage 1 at weight 1/2, layer by layer."""
    if not grids:
        return ""
    rows = []
    for name, result in grids.items():
        layers = [one["layers"] for one in result["drift"] if one["weight"] == 0.5]
        means = [None if None in values else float(np.mean(values)) for values in zip(*layers, strict=True)]
        rows.append([name, *(number(value, 2) for value in means)])
    most = max(len(row) for row in rows)
    head = ["set", "stem", *(f"unit {unit}" for unit in range(1, most - 1))]
    return (
        "## Where Stage 2 ends\n\nDrift at weight 1/2 ([grid.md](grid.md), eq. 7a): from 0.5 half way to 1 at either"
        " end it lies between the Stage-1 solutions, as the criterion supposes; above 1 it is elsewhere.\n\n"
        + table(head, ([*row, *[""] * (most - len(row))] for row in rows))
    )


def strengths(maps: Mapping[str, Result]) -> str:
    """Map the best cell over the quality of the pretrained weights and the number of images."""
    if not maps:
        return ""
    lines = []
    for name in sorted(maps, key=_strength):
        result, record = maps[name], _record(maps[name], default_reading(), "test")
        learned = _mean_error(result).min() < 1 - 2 * CHANCE
        order = interval(record["spearman_risk"], 2) if learned and _has_numbers(record) else NONE
        best = _best(result) if learned else NONE
        lines.append([name.partition("-")[0], result["training_images"], best, *_by_depth(result), order])
    depths = [f"s = {depth}" for depth in next(iter(maps.values()))["depths"]]
    head = ["pretraining", "images", "best (s, w)", *depths, "Spearman, risk"]
    return (
        "## Pretraining and number of images\n\nGlyphs of imbalance 10 by quality of the pretrained weights and number"
        " of images; balanced accuracy of the refined networks on test at weight 1/2, where chance is 1 %: what is"
        " below twice that has no best cell.\n\n" + table(head, lines)
    )


def _strength(name: str) -> tuple[int, int]:
    """Order the map: from no pretraining to the best, and by the number of images."""
    strength, size = name.split("-")
    return list(STRENGTHS).index(strength), int(size)


def _mean_error(result: Result) -> np.ndarray:
    """Average one minus balanced accuracy of the refined networks on test over seeds: (D, W), depth 0 one value."""
    depths, weights = result["depths"], result["weights"]
    sums, seen = np.zeros((len(depths), len(weights))), np.zeros((len(depths), len(weights)))
    for cell in result["cells"]:
        column = slice(None) if cell["weight"] is None else weights.index(cell["weight"])
        sums[depths.index(cell["depth"]), column] += 1 - cell["refined"]["test"][result["rule"]]["balanced"]
        seen[depths.index(cell["depth"]), column] += 1
    return sums / seen


def _best(result: Result) -> str:
    """Name the best cell of the refined networks on test, mean over seeds."""
    error = _mean_error(result)
    row, column = np.unravel_index(int(error.argmin()), error.shape)
    return place(result["depths"][row], result["weights"][column] if result["depths"][row] else None)


def _by_depth(result: Result) -> list[str]:
    """Write the balanced accuracy of the refined networks on test at weight 1/2, mean over seeds."""
    error = _mean_error(result)[:, result["weights"].index(0.5)]
    return [f"{100 * (1 - one):.1f}" for one in error]


def _worth_of_sharing(result: Result) -> dict[str, float | None]:
    """What full sharing at weight 1/2 has over nothing shared, refined, on test, paired by seed, in points."""
    full, none = ([], [])
    for cell in result["cells"]:
        accuracy = 100 * cell["refined"]["test"][result["rule"]]["balanced"]
        if cell["depth"] == 0:
            none.append((cell["seed"], accuracy))
        elif (cell["depth"], cell["weight"]) == (result["depths"][-1], 0.5):
            full.append((cell["seed"], accuracy))
    return paired_difference(*([accuracy for _, accuracy in sorted(of)] for of in (full, none)))


def _said_of_sharing(result: Result) -> float | None:
    """How much lower the default reading has the risk of full sharing at weight 1/2, mean over seeds, in nats."""
    tables = [one["table"] for one in result["predicted"][default_reading()].values()]
    if any(of is None for of in tables):
        return None
    half = result["weights"].index(0.5)
    return float(np.mean([of[0][half] - of[-1][half] for of in tables]))


def _selected(result: Result) -> str:
    """Name the cells that the default reading selects, of all seeds."""
    record = _record(result, default_reading(), "test")
    chosen = [place(**one["selected"]) for one in record["by_seed"]] if _has_numbers(record) else []
    return "; ".join(dict.fromkeys(chosen)) or NONE


def _record(result: Result, reading: str, split: str, state: str = "refined") -> Mapping[str, Any] | None:
    wanted = (reading, state, split)
    found = (one for one in result["measures"] if (one["reading"], one["state"], one["split"]) == wanted)
    return next(found, None)


def _has_numbers(record: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    """Say whether a record is there, and holds measures and not the reason why there are none."""
    return record is not None and "reason" not in record
