"""OSDTW beside three baselines at equal compute and with two seeds, on a small cut of the embedded `glyphs`.

    python examples/demo.py [--out runs/demo]

Under four minutes on two cores. Interrupt it and start it again: it goes on where it was.
"""

import argparse
import os
import time
from pathlib import Path

import forktail
from forktail.cli.comparison_table import print_comparison
from forktail.cli.progress import watcher

METHODS = ["osdtw", "logit_adjustment", "ce", "linear_probe"]
SETTINGS = ["data.n_max=20", "data.imbalance=10", "split.shots=quantile", "plan.epochs=15", "plan.batch_size=32"]
SEEDS = [0, 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where the comparison goes")
    run_demo(parser.parse_args().out, SETTINGS, SEEDS)


def run_demo(out: Path, settings: list[str], seeds: list[int]) -> None:
    started = time.perf_counter()
    with watcher() as progress:
        comparison = forktail.compare(
            "glyphs",
            METHODS,
            budget="compute",
            seeds=seeds,
            settings=settings,
            out=out,
            jobs=min(2, os.cpu_count() or 1),  # two runs side by side on two cores are faster than one after the other
            progress=progress,
        )
    print_comparison(comparison.path, comparison.results)
    run = next(row["runs"][0] for row in comparison.results["methods"] if row["method"] == "osdtw")
    print(f"\nAfter {time.perf_counter() - started:.0f} s. Open in a browser:")
    print(f"  {comparison.path / 'compare.html'}  the comparison")
    print(f"  {comparison.path / run / 'report.html'}  OSDTW's report, with the map of depths and weights")


if __name__ == "__main__":
    main()
