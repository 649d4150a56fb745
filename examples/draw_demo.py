"""Draw the demo's three runs as one picture: the criterion over (depth, weight), and accuracy by shot group.

    python examples/draw_demo.py [--runs runs/demo] [--out docs/demo.png]

Needs matplotlib, which comes with `pip install 'forktail[symbols]'`.
"""

import argparse
import csv
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

GROUPS = ("balanced", "many", "medium", "few")
LABELS = {"ce": "cross-entropy", "logit_adjustment": "logit adjustment", "osdtw": "OSDTW"}
COLOURS = {"ce": "#9aa5b1", "logit_adjustment": "#4c78a8", "osdtw": "#d1495b"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/demo"), help="what examples/demo.py wrote")
    parser.add_argument("--out", type=Path, default=Path("docs/demo.png"), help="the picture")
    options = parser.parse_args()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=(1.1, 1), layout="constrained")
    draw_criterion(left, options.runs / "osdtw")
    draw_groups(right, options.runs)
    figure.savefig(options.out, dpi=130)


def draw_criterion(axes, run: Path) -> None:
    with (run / "criterion.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    depths = sorted({int(row["depth"]) for row in rows})
    weights = sorted({float(row["weight"]) for row in rows})
    total = np.array([float(row["total"]) for row in rows]).reshape(len(depths), len(weights))
    image = axes.imshow(total, aspect="auto", origin="lower", cmap="viridis_r", extent=(0, 1, -0.5, len(depths) - 0.5))
    chosen = json.loads((run / "selection.json").read_text())
    axes.plot(chosen["weight"], chosen["depth"], "o", ms=11, mfc="none", mec="#d1495b", mew=2.5)
    axes.set(xlabel="weight of the head", ylabel="shared depth", title="predicted excess risk (nats); ring: selected")
    axes.figure.colorbar(image, ax=axes)


def draw_groups(axes, runs: Path) -> None:
    width = 0.8 / len(LABELS)
    for number, name in enumerate(LABELS):
        accuracy = json.loads((runs / name / "metrics.json").read_text())["accuracy"]
        values = [100 * (accuracy[group] or 0) for group in GROUPS]
        bars = axes.bar(np.arange(len(GROUPS)) + number * width, values, width, label=LABELS[name], color=COLOURS[name])
        missing = [accuracy[group] is None for group in GROUPS]
        names = ["n/a" if gone else f"{value:.0f}" for value, gone in zip(values, missing, strict=True)]
        axes.bar_label(bars, names, fontsize=8)
    axes.set_xticks(np.arange(len(GROUPS)) + width, GROUPS)
    axes.set(ylabel="accuracy (points)", title="one seed, equal training compute", ylim=(0, 105))
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
