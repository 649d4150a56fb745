"""OSDTW beside cross-entropy and logit adjustment, at equal compute, on a smaller cut of the embedded `glyphs`.

    python examples/demo.py [--out runs/demo]

About three minutes on two cores. The baselines get as many floating-point operations as all stages of OSDTW took
together, so a gain is not bought with training time. Interrupt it and start it again: it goes on where it was.
"""

import argparse
import json
import time
from pathlib import Path

import forktail
from forktail.cli.progress import watcher
from forktail.cli.tables import console, metrics_table

DATA = ["data.n_max=20", "data.imbalance=10", "split.shots=quantile"]
PLAN = ["plan.batch_size=32"]
OSDTW = ["plan.epochs=16", "method.stage1_epochs=3", "method.refinement_epochs=2"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where the three runs go")
    out = parser.parse_args().out
    started = time.perf_counter()
    with watcher() as progress:
        osdtw = forktail.fit("glyphs", "osdtw", settings=[*DATA, *PLAN, *OSDTW], out=out / "osdtw", progress=progress)
        budget = [*DATA, *PLAN, f"plan.flops={total_flops(osdtw)}"]
        others = [
            forktail.fit("glyphs", name, settings=budget, out=out / name, progress=progress)
            for name in ("ce", "logit_adjustment")
        ]
    report([osdtw, *others], time.perf_counter() - started)


def total_flops(run) -> float:
    return sum(stage["flops"] for stage in run.read_json("stages.json"))


def report(runs, seconds: float) -> None:
    screen = console()
    chosen = runs[0].selection
    print_depths(runs[0], screen)
    screen.print(f"OSDTW selected depth {chosen['depth']} and weight {chosen['weight']:.2f} for the head.\n")
    screen.print(metrics_table([(run.path.name, run.metrics) for run in runs]))
    sizes = runs[0].metrics["groups"]["classes"]
    flops = ", ".join(f"{run.path.name} {total_flops(run) / 1e12:.2f}" for run in runs)
    screen.print(
        f"\nAccuracy in points on a balanced test set in a typeface that no training image has; "
        f"{sizes['many']} many, {sizes['medium']} medium, {sizes['few']} few classes."
        f"\nTraining compute in TFLOP: {flops}. {seconds:.0f} s. The runs are in {runs[0].path.parent}."
    )


def print_depths(run, screen) -> None:
    """The criterion at each depth's best weight."""
    lines = (run.path / "criterion.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), map(float, line.split(",")), strict=True)) for line in lines[1:]]
    screen.print("\nCriterion (nats) at the best weight of each depth:")
    for depth in sorted({row["depth"] for row in rows}):
        best = min((row for row in rows if row["depth"] == depth), key=lambda row: row["total"])
        screen.print(json.dumps({key: round(value, 3) for key, value in best.items()}), highlight=False)


if __name__ == "__main__":
    main()
