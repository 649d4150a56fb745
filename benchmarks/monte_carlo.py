"""Predicted against simulated excess risk: thousands of trainings of small problems whose truth is known exactly.

    python benchmarks/monte_carlo.py [--replicates 4000] [--out benchmarks/results/monte_carlo.json]
                                     [--figure docs/monte_carlo.png]

One core, a few minutes. docs/validation.md says what is compared and what came out. All figures are N K: excess risk in
nats, summed over tasks, times the number of images. Needs matplotlib (`pip install 'forktail[symbols]'`).
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from monte_carlo_problems import Labelled, LinearNetwork, gaussian, logistic, paper_case, two_layers

from forktail.theory import READINGS, criterion_table
from forktail.theory.refined import refined_table

WEIGHTS = np.round(np.linspace(0.1, 0.9, 9), 2)
FINE = np.round(np.linspace(0.01, 0.99, 99), 2)
DAMPING = 0.1
CHUNK = 250  # replicates trained at once: what stays in the cache
COUPLED = (gaussian, lambda: logistic(-1), lambda: logistic(1), two_layers)


# -------------------------------------------------------------------------------- every cell of the grid, simulated


def simulate(problem, priors, damping, replicates, rng):
    """Train ``replicates`` times, assemble for every depth and weight, raw and refined, and measure.

    Every weight has replicates of its own. Returns (prior, stage2, assembly, depth, weight) -> (replicates,) N times
    the excess risk over that of the (damped) optimum.
    """
    found = defaultdict(list)
    truth = np.concatenate(problem.optimum)
    start = problem.alone(problem.population("training"), truth[None], damping)
    floor = {prior: problem.excess(start, prior) for prior in priors}
    for weight, size in ((weight, size) for weight in WEIGHTS.tolist() for size in chunks(replicates)):
        data = problem.draw(rng, size)
        alone = problem.alone(data, np.repeat(truth[None], size, axis=0), damping)
        for key, theta in assemblies(problem, data, alone, weight, damping):
            for prior in priors:
                found[prior, *key, weight].append(problem.n * (problem.excess(theta, prior) - floor[prior]))
    return {key: np.concatenate(parts) for key, parts in found.items()}


def assemblies(problem, data, alone, weight, damping):
    """Every assembled pair of networks, by (stage2, assembly, depth)."""
    weights, depths = (weight, 1 - weight), problem.moments().offsets
    yield ("shared", "raw", 0), alone
    trunk = problem.shared(data, alone, depths[-1], weights, damping)
    for depth, encoder in list(enumerate(depths))[1:]:
        forms = {"shared": trunk}
        if encoder < depths[-1]:
            own = problem.shared(data, alone, encoder, weights, damping)
            forms = {"shared": own, "whole": trunk[:, :encoder]}
        for stage2, shared in forms.items():
            raw = problem.assembled(shared, alone)
            refined = problem.minimise(data, raw, encoder, damping=damping, decoders_only=True)
            for assembly, phi in (("raw", raw), ("refined", refined)):
                yield (stage2, assembly, depth), [phi[:, place] for place in problem.places(encoder)]


def chunks(replicates):
    return [min(CHUNK, replicates - first) for first in range(0, replicates, CHUNK)]


def predict(problem, prior, damping, weights):
    """N K of the coupled criterion, of its block-diagonal form, and of every diagonal reading; (L + 1, W) each."""
    moments = problem.moments(prior, damping)
    options = {"weights": np.stack([weights, 1 - weights], axis=1), "damping": damping, "debiased": False}
    tables = {
        (stage2, assembly): refined_table(moments, n=problem.n, stage2=stage2, assembly=assembly, **options)
        for stage2 in ("shared", "whole")
        for assembly in ("raw", "refined")
    }
    tables["block-diagonal"] = refined_table(moments.block_diagonal(), n=problem.n, **options)
    for reading in READINGS:
        own_group_n = problem.own_group_n if reading == "unequal" else None
        if not (reading == "naive" and damping):
            tables[reading] = criterion_table(
                *moments.diagonals(), n=[problem.n] * 2, reading=reading, own_group_n=own_group_n, **options
            )
    return {name: problem.n * table.total for name, table in tables.items()}


def compare(problem, replicates, rng):
    """One row per cell: what was simulated, with its standard error, and what each criterion had predicted."""
    rows = []
    linear = isinstance(problem, Labelled) and isinstance(problem.networks[0], LinearNetwork)
    undamped = ["training", "shifted"] + ["relabelled", "posterior"] * linear
    for case, priors, damping in (("", undamped, 0.0), ("damped", ["training"], DAMPING)):
        simulated = simulate(problem, priors, damping, replicates, rng)
        predicted = {prior: predict(problem, prior, damping, WEIGHTS) for prior in priors}
        for (prior, stage2, assembly, depth, weight), values in simulated.items():
            cell = depth, WEIGHTS.tolist().index(weight)
            mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
            coupled = predicted[prior][stage2, assembly][cell]
            row = {"problem": problem.name, "case": case or prior, "stage2": stage2, "assembly": assembly}
            row |= {"depth": depth, "weight": weight, "simulated": mean, "error": error, "K": coupled}
            row |= {"z": (mean - coupled) / error}
            rows.append(row | {name: table[cell] for name, table in predicted[prior].items() if isinstance(name, str)})
    return rows


def choices(problem, replicates, rng):
    """The cell that each criterion selects, per depth and over all, and what it costs more than K_ref's: refined."""
    truth, depths = np.concatenate(problem.optimum), problem.moments().offsets
    predicted = predict(problem, "training", 0.0, FINE)
    predicted["K_ref"] = predicted["shared", "refined"]
    selected = {}
    for name in ("K_ref", "block-diagonal", *READINGS):
        best = predicted[name].argmin(axis=1)
        for depth in range(1, len(depths)):
            selected[depth, name] = depth, float(FINE[best[depth]])
        depth = int(predicted[name].min(axis=1).argmin())
        selected["any", name] = depth, float(FINE[best[depth]]) if depth else 0.5
    excess = defaultdict(list)
    for size in chunks(replicates):
        data = problem.draw(rng, size)
        alone = problem.alone(data, np.repeat(truth[None], size, axis=0))
        for depth, weight in sorted(set(selected.values())):
            shared = problem.shared(data, alone, depths[depth], (weight, 1 - weight))
            phi = problem.minimise(data, problem.assembled(shared, alone), depths[depth], decoders_only=True)
            theta = [phi[:, place] for place in problem.places(depths[depth])]
            excess[depth, weight].append(problem.n * problem.excess(theta, "training"))
    excess = {cell: np.concatenate(parts) for cell, parts in excess.items()}
    rows = []
    for (pinned, name), cell in selected.items():
        loss = excess[cell] - excess[selected[pinned, "K_ref"]]  # on the same replicates
        row = {"problem": problem.name, "among": pinned, "criterion": name, "depth": cell[0], "weight": cell[1]}
        rows.append(row | {"loss": loss.mean(), "error": loss.std(ddof=1) / np.sqrt(len(loss))})
    return rows


# ------------------------------------------------------------------------------- each reading under its own protocol


def readings(replicates, rng):
    """The paper's case: what each reading predicts, beside what the training that it speaks of really costs."""
    problem = paper_case()
    halves = replace(problem, n=3 * problem.n // 4), replace(problem, n=problem.n // 4)
    truth = np.repeat(np.concatenate(problem.optimum)[None], replicates, axis=0)
    together = problem.draw(rng, replicates)
    apart = tuple(mixed(*parts) for parts in zip(*(half.draw(rng, replicates) for half in halves), strict=True))
    trunk = sum(problem.units)
    common = {"weights": np.stack([WEIGHTS, 1 - WEIGHTS], axis=1), "debiased": False}
    moments = problem.moments().diagonals()
    rows, alone = [], {id(data): problem.alone(data, truth) for data in (together, apart)}
    for reading in READINGS:
        data = apart if reading == "unequal" else together
        images = {"n": [problem.n] * 2, "own_group_n": [half.n for half in halves] if data is apart else None}
        table = criterion_table(*moments, reading=reading, **images, **common)
        for column, w in enumerate(WEIGHTS.tolist()):
            own = alone[id(data)]
            if reading == "average":
                encoder = w * own[0][:, :trunk] + (1 - w) * own[1][:, :trunk]
            else:
                encoder = problem.shared(data, own, trunk, (w, 1 - w))
            phi = problem.assembled(encoder, own)
            excess = problem.n * problem.excess([phi[:, place] for place in problem.places(trunk)], "training")
            scatter = (encoder - encoder.mean(axis=0)) ** 2 @ problem.inputs.diagonal().reshape(2, -1)[:, :trunk].sum(0)
            mean, error = excess.mean(), excess.std(ddof=1) / np.sqrt(replicates)
            row = {"reading": reading, "weight": w, "simulated": mean, "error": error}
            row |= {"predicted": problem.n * table.total[-1, column]}
            row |= {"z": (mean - row["predicted"]) / error, "variance simulated": problem.n * scatter.mean() / 2}
            row |= {"variance error": problem.n * scatter.std(ddof=1) / 2 / np.sqrt(replicates)}
            rows.append(row | {"variance predicted": problem.n * table.shared_variance[-1, column]})
    return rows


def mixed(first, second):
    """The first task's half of one draw and the second task's of another: tasks on images of their own."""
    half = first.shape[1] // 2
    return np.concatenate([first[:, :half], second[:, half:]], axis=1)


# --------------------------------------------------------------------------------- from measured positions (plug-in)


def plugged_in(replicates, rng, damping):
    """Mean of K_ref over replicates when only the positions are measured, with and without debiasing."""
    problem = gaussian()
    truth = problem.moments(damping=damping)
    starts = np.repeat(np.concatenate(problem.optimum)[None], replicates, axis=0)
    solutions = problem.alone(problem.draw(rng, replicates), starts, damping)
    options = {"weights": np.stack([WEIGHTS, 1 - WEIGHTS], axis=1), "n": problem.n, "damping": damping}
    totals = {True: [], False: []}
    for pair in zip(*solutions, strict=True):
        measured = replace(truth, position=[x - origin for x, origin in zip(pair, problem.origin, strict=True)])
        for debiased, tables in totals.items():
            tables.append(problem.n * refined_table(measured, debiased=debiased, **options).total)
    exact = problem.n * refined_table(truth, debiased=False, **options).total
    rows = []
    for depth in range(1, len(problem.units)):
        for column, weight in enumerate(WEIGHTS.tolist()):
            row = {"damping": damping, "depth": depth, "weight": weight, "K": exact[depth, column]}
            for debiased, name in ((True, "debiased"), (False, "not debiased")):
                values = np.array(totals[debiased])[:, depth, column]
                row |= {name: values.mean(), f"{name}, error": values.std(ddof=1) / np.sqrt(replicates)}
            rows.append(row | {"z": (row["debiased"] - row["K"]) / row["debiased, error"]})
    return rows


# ------------------------------------------------------------------------------------------------------------ output


def summary(rows):
    """Per problem, case, Stage 2 and assembly: how far predictions are from simulations over all depths and weights."""
    groups = defaultdict(list)
    for row in rows:
        if row["depth"] and row["case"] != "relabelled":
            groups[row["problem"], row["case"], row["stage2"], row["assembly"]].append(row)
    return [
        {
            **dict(zip(("problem", "case", "stage2", "assembly"), key, strict=True)),
            "cells": len(cells),
            "largest error": max(abs(cell["K"] / cell["simulated"] - 1) for cell in cells),
            "rms z": float(np.sqrt(np.mean([cell["z"] ** 2 for cell in cells]))),
            "largest z": max((cell["z"] for cell in cells), key=abs),
            "block-diagonal over simulated": [
                func(cell["block-diagonal"] / cell["simulated"] for cell in cells) for func in (min, max)
            ],
        }
        for key, cells in groups.items()
    ]


def at_half(rows):
    """Everything shared, w = 1/2, Stage 2 and risk of the plain case: the table that docs/validation.md shows."""
    table = []
    for name in dict.fromkeys(row["problem"] for row in rows):
        plain = [r for r in rows if r["problem"] == name and r["case"] == "training" and r["stage2"] == "shared"]
        deepest = max(row["depth"] for row in plain)
        cells = {r["assembly"]: r for r in plain if r["depth"] == deepest and r["weight"] == 0.5}
        alone = next(r for r in plain if r["depth"] == 0 and r["weight"] == 0.5)
        names = ("block-diagonal", *READINGS)
        table.append({"problem": name, "not shared": alone, **cells, **{k: cells["raw"][k] for k in names}})
    return table


def show(result):
    cells = result["cells"]
    print("Everything shared, w = 1/2: N K simulated (standard error), predicted, z")
    for row in at_half(cells):
        print(f"\n  {row['problem']}")
        for name in ("not shared", "raw", "refined"):
            cell = row[name]
            print(f"    {name:12} {cell['simulated']:9.3f} ({cell['error']:.3f}) {cell['K']:9.3f} {cell['z']:6.2f}")
        print("    " + ", ".join(f"{name} {row[name]:.2f}" for name in ("block-diagonal", *READINGS)))
    print("\nAll depths and weights: largest relative error, rms z, largest z; block-diagonal over simulated")
    for row in summary(cells):
        low, high = row["block-diagonal over simulated"]
        print(
            f"  {row['problem']:16} {row['case']:9} {row['stage2']:7} {row['assembly']:8} {row['cells']:3} cells "
            f"{row['largest error']:7.2%} {row['rms z']:5.2f} {row['largest z']:6.2f}   {low:.2f} to {high:.2f}"
        )
    print(
        "\nImages weighted by their labels: the first-order term, which K does not have; w = 1/2, all shared, refined"
    )
    for row in cells:
        if row["case"] == "relabelled" and row["depth"] == 2 and row["weight"] == 0.5 and row["assembly"] == "refined":
            print(f"  {row['problem']:16} {row['simulated']:7.2f} ({row['error']:.2f}), formula {row['K']:.2f}")
    print("\nSelected depth and weight, and what they cost more than K_ref's (standard error), refined")
    for row in result["choices"]:
        if row["among"] == "any":
            loss = f"{row['loss']:7.3f} ({row['error']:.3f})"
            print(f"  {row['problem']:16} {row['criterion']:15} {row['depth']} {row['weight']:.2f} {loss}")
    print("\nThe paper's case, each reading under its own training, w = 1/2: N K, and shared variance over simulated")
    for row in result["readings"]:
        if row["weight"] == 0.5:
            ratio = row["variance predicted"] / row["variance simulated"]
            error = ratio * row["variance error"] / row["variance simulated"]
            print(
                f"  {row['reading']:9} {row['simulated']:7.3f} ({row['error']:.3f}) {row['predicted']:7.3f}"
                f"   variance {ratio:.3f} ({error:.3f})"
            )
    print("\nK_ref from measured positions, all shared, w = 1/2 (linear-Gaussian)")
    for row in result["plugged in"]:
        if row["weight"] == 0.5 and row["depth"] == 2:
            print(
                f"  damping {row['damping']}: K {row['K']:.3f}, debiased {row['debiased']:.3f} "
                f"({row['debiased, error']:.3f}), not debiased {row['not debiased']:.3f}"
            )


def draw(result, path):
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(2, 3, figsize=(12, 7), layout="constrained")
    rows = [row for row in result["cells"] if row["case"] == "training" and row["stage2"] == "shared"]
    for axes, name in zip(grid.flat, dict.fromkeys(row["problem"] for row in rows), strict=False):
        here = [row for row in rows if row["problem"] == name]
        deepest = max(row["depth"] for row in here)
        alone = next(row for row in here if row["depth"] == 0)
        axes.axhline(alone["K"], color="#9aa5b1", lw=1, ls=":", label="not shared")
        for assembly, colour, label in (("raw", "#d1495b", "K_raw"), ("refined", "#1b7f5c", "K_ref")):
            cells = [row for row in here if row["assembly"] == assembly and row["depth"] == deepest]
            w, simulated, error, K = np.array([[r[k] for k in ("weight", "simulated", "error", "K")] for r in cells]).T
            axes.plot(w, K, color=colour, label=label)
            axes.errorbar(w, simulated, 2 * error, fmt="o", ms=4, color=colour, label=f"{assembly}, simulated")
        for other, colour in (("block-diagonal", "#4c78a8"), ("sandwich", "#e0a030"), ("naive", "#b07aa1")):
            axes.plot(w, [row[other] for row in cells], "--", lw=1.2, color=colour, label=other)
        axes.set(title=f"{name}, all shared", xlabel="w", ylabel="N K", yscale="log")
    grid.flat[0].legend(frameon=False, fontsize=7, ncols=2)
    draw_readings(grid.flat[4], result["readings"])
    draw_scores(grid.flat[5], result["cells"])
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def draw_readings(axes, rows):
    colours = {"sandwich": "#e0a030", "naive": "#b07aa1", "average": "#4c78a8", "unequal": "#1b7f5c"}
    for reading, colour in colours.items():
        w, simulated, error, predicted = np.array(
            [
                [row[k] for k in ("weight", "simulated", "error", "predicted")]
                for row in rows
                if row["reading"] == reading
            ]
        ).T
        axes.plot(w, predicted, color=colour, label=reading)
        if reading != "naive":  # its training is sandwich's
            axes.errorbar(w, simulated, 2 * error, fmt="o", ms=4, color=colour)
    axes.set(title="paper's case: readings, own trainings", xlabel="w", ylabel="N K", yscale="log")
    axes.legend(frameon=False, fontsize=7)


def draw_scores(axes, rows):
    scores = np.sort([row["z"] for row in rows if row["depth"] and row["case"] != "relabelled"])
    normal = [NormalDist().inv_cdf((i + 0.5) / len(scores)) for i in range(len(scores))]
    axes.plot(normal, scores, ".", ms=3, color="#1b7f5c")
    axes.plot([-3, 3], [-3, 3], color="#9aa5b1", lw=1)
    axes.set(title=f"z of K_raw and K_ref, {len(scores)} cells", xlabel="standard normal quantile", ylabel="z")


def rounded(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value


def write(result, path):
    """Tables as column names and rows, one row per line, so that a new run reads as a difference."""
    parts = []
    for key, value in result.items():
        if isinstance(value, list):
            columns = list(dict.fromkeys(name for row in value for name in row))
            lines = [json.dumps([rounded(row.get(name)) for name in columns]) for row in value]
            text = f'{{"columns": {json.dumps(columns)}, "rows": [\n' + ",\n".join(lines) + "\n]}"
        else:
            text = json.dumps(value)
        parts.append(f"{json.dumps(key)}: {text}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def run(replicates, seed=0):
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    problems = [make() for make in COUPLED]
    few = min(replicates, 400)
    return {
        "machine": f"{platform.machine()}, one core, Python {platform.python_version()}, NumPy {np.__version__}",
        "replicates": replicates,
        "seed": seed,
        "images": {problem.name: problem.n for problem in problems},
        "damping": DAMPING,
        "cells": [row for problem in problems for row in compare(problem, replicates, rng)],
        "choices": [row for problem in problems for row in choices(problem, replicates, rng)],
        "readings": readings(replicates, rng),
        "plugged in": [row for damping in (0.0, DAMPING) for row in plugged_in(few, rng, damping)],
        "seconds": round(time.perf_counter() - start, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=4000, help="trainings of every problem")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/monte_carlo.json"), help="the table")
    parser.add_argument("--figure", type=Path, default=Path("docs/monte_carlo.png"), help="the picture")
    options = parser.parse_args()
    result = run(options.replicates, options.seed)
    show(result)
    write(result, options.out)
    draw(result, options.figure)


if __name__ == "__main__":
    main()
