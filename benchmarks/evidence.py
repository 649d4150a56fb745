"""Does the criterion predict, and does OSDTW win at equal cost? Every number of docs/evidence.md.

    python benchmarks/evidence.py                    # all that is missing; interrupt it and start it again
    python benchmarks/evidence.py --list             # the pieces, their role and their CPU hours
    python benchmarks/evidence.py grid-glyphs-10     # one piece, or several
    python benchmarks/evidence.py --tables           # writes docs/evidence.md from benchmarks/results/evidence again

The sets are named here before they were run, and none is dropped after its result was seen. Variants of the criterion
and of the method are chosen on the *development* sets by their validation part; the test part of the *confirmation*
sets is read once, after the default is committed. Fashion-MNIST and the WordNet glosses have to be there, see
docs/data.md; a piece whose set is missing stops with the command that fetches it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import evidence_page
import torch

import forktail
from forktail.cli.progress import watcher
from forktail.run import Run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "evidence"
PAGE = ROOT / "docs" / "evidence.md"
RUNS = Path("runs/evidence")
JOBS = 2

Role = Literal["development", "confirmation"]

PLAN = ("plan.batch_size=32", "split.shots=quantile")
RESNET_WEIGHTS = RUNS / "resnet14"
RESNET = ("backbone.name=resnet14", "backbone.input_size=28", f"backbone.weights={RESNET_WEIGHTS}/encoder.safetensors")
TEXT = ("backbone.name=minilm", "backbone.frozen_units=3")


@dataclass(frozen=True)
class Set:
    """A data set with a backbone.

    Args:
        data: As in `forktail fit`.
        settings: The rest of the recipe but for the plan's epochs.
        role: What its test part is for.
        depths: Depths of its grid; the deepest is all there is to share.
    """

    data: str
    settings: tuple[str, ...]
    role: Role
    depths: tuple[int, ...] = (0, 2, 4, 6)


def glyphs(n_max: int, imbalance: int, role: Role, *more: str) -> Set:
    """Return glyphs with a tail, on the embedded vision transformer."""
    return Set("glyphs", (f"data.n_max={n_max}", f"data.imbalance={imbalance}", *PLAN, *more), role)


def fashion(imbalance: int, role: Role, *more: str) -> Set:
    """Return Fashion-MNIST with a tail."""
    return Set("fashion-mnist", ("data.n_max=200", f"data.imbalance={imbalance}", *PLAN, *more), role)


SETS = {
    "glyphs-10": glyphs(30, 10, "development"),
    "mismatch-50": glyphs(30, 10, "development", "data.mismatch=0.5"),
    "fashion-10": fashion(10, "development"),
    "glyphs-50": glyphs(60, 50, "confirmation"),
    "glyphs-100": glyphs(100, 100, "confirmation"),
    "glyphs-200": glyphs(200, 200, "confirmation"),
    "mismatch-0": glyphs(30, 10, "confirmation", "data.mismatch=0", "data.seed=1"),
    "mismatch-25": glyphs(30, 10, "confirmation", "data.mismatch=0.25", "data.seed=1"),
    "mismatch-75": glyphs(30, 10, "confirmation", "data.mismatch=0.75", "data.seed=1"),
    "mismatch-100": glyphs(30, 10, "confirmation", "data.mismatch=1", "data.seed=1"),
    "fashion-50": fashion(50, "confirmation"),
    "fashion-100": fashion(100, "confirmation"),
    "glyphs-resnet": Set("glyphs", ("data.n_max=30", "data.imbalance=10", *PLAN, *RESNET), "confirmation"),
    "fashion-resnet": Set("fashion-mnist", ("data.n_max=200", "data.imbalance=50", *PLAN, *RESNET), "confirmation"),
    "wordnet-gloss": Set("wordnet-gloss", ("plan.batch_size=32", *TEXT), "confirmation", depths=(0, 1, 2, 3)),
}
SEEDS = (0, 1, 2)
GRID = {"weights": 5, "epochs": 15}
# Which sets show how a baseline goes on improving, and how long: each length is twice the one before.
CURVE = ("glyphs-10", "fashion-10", "mismatch-50", "wordnet-gloss")
LENGTHS = (15, 30, 60, 120)
BASELINES = ("logit_adjustment", "balanced_softmax")
# Who is compared at equal compute, and with how many epochs of cross-entropy: the length of the curve after which twice
# the compute no longer improves the best baseline on validation (`converged` reads it from the development curves).
CONTESTANTS = (*BASELINES, "balanced_bce", "livt", "gpaco", "independent", "osdtw")
EQUAL = ("glyphs-50", "glyphs-100", "mismatch-75", "fashion-50", "fashion-100", "wordnet-gloss")
EQUAL_SEEDS = (0, 1, 2, 3, 4)
NOT_FOR_TEXT = ("livt", "gpaco")  # pictures to mask, two views of each
# The map of the best cell: how good the pretrained weights are, and how many images there are.
STRENGTHS = {"random": 0, "weak": 1, "full": None}  # epochs of pretraining; None is the embedded weights
SIZES = (10, 30, 100)  # images of the largest class of 100, imbalance 10

Make = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Piece:
    """What one process makes in one go.

    Args:
        name: Its name, and that of its file.
        role: What its test part is for.
        hours: CPU hours that it took, or should take, on the machine of the committed results.
        make: Makes its result.
    """

    name: str
    role: Role
    hours: float
    make: Make

    @property
    def path(self) -> Path:
        """Where its result is kept."""
        return RESULTS / f"{self.name}.json"


def measure_grid(name: str, of: Set, *, seeds: Sequence[int] = SEEDS, weights: int = GRID["weights"]) -> Make:
    """Return what trains all cells of a set."""

    def make() -> Mapping[str, Any]:
        _pretrain_resnet(of)
        with watcher() as progress:
            found = forktail.grid(
                of.data,
                weights=weights,
                depths=of.depths,
                seeds=seeds,
                settings=[*of.settings, f"plan.epochs={GRID['epochs']}"],
                out=RUNS / name,
                jobs=JOBS,
                progress=progress,
            )
        return {**found.results, "cpu_hours": _hours(found.path / "runs")}

    return make


def measure_curve(name: str, of: Set) -> Make:
    """Return what trains the baselines at every length."""

    def make() -> Mapping[str, Any]:
        rows = []
        for epochs in LENGTHS:
            place = RUNS / name / str(epochs)
            with watcher() as progress:
                forktail.compare(
                    of.data,
                    BASELINES,
                    seeds=SEEDS,
                    settings=["data.validation=true", *of.settings, f"plan.epochs={epochs}"],
                    out=place,
                    jobs=JOBS,
                    progress=progress,
                )
            for method in BASELINES:
                for seed in SEEDS:
                    run = Run(place / "runs" / f"{method}-{seed}")
                    parts = {"validation": run.read_object("validation.json"), "test": run.metrics}
                    accuracy = {part: found["accuracy"]["balanced"] for part, found in parts.items()}
                    rows.append({"method": method, "seed": seed, "epochs": epochs, **accuracy})
        return {"data": of.data, "rows": rows, "cpu_hours": _hours(*(RUNS / name).glob("*/runs"))}

    return make


def converged(curve: Mapping[str, Any]) -> int:
    """Return the shortest length whose best baseline gains less than half a point on validation from twice as much."""
    best = {
        epochs: max(
            _mean(row["validation"] for row in curve["rows"] if (row["method"], row["epochs"]) == (method, epochs))
            for method in BASELINES
        )
        for epochs in LENGTHS
    }
    for shorter, longer in pairwise(LENGTHS):
        if best[longer] < best[shorter] + 0.005:
            return shorter
    return LENGTHS[-1]


def measure_equal(name: str, of: Set) -> Make:
    """Return what compares the methods at equal compute, as long as the development curves say."""

    def make() -> Mapping[str, Any]:
        curves = [RESULTS / f"curve-{curve}.json" for curve in CURVE if SETS[curve].role == "development"]
        missing = [path.stem for path in curves if not path.is_file()]
        if missing:
            raise SystemExit(f"{name} is as long as the curves say: make {', '.join(missing)} first")
        epochs = max(converged(json.loads(path.read_text(encoding="utf-8"))) for path in curves)
        left_out = NOT_FOR_TEXT if of.data == "wordnet-gloss" else ()
        with watcher() as progress:
            found = forktail.compare(
                of.data,
                [method for method in CONTESTANTS if method not in left_out],
                budget="compute",
                seeds=EQUAL_SEEDS,
                settings=[*of.settings, f"plan.epochs={epochs}"],
                out=RUNS / name,
                jobs=JOBS,
                progress=progress,
            )
        return {**found.results, "epochs": epochs, "cpu_hours": _hours(RUNS / name / "runs")}

    return make


def measure_map(strength: str, n_max: int) -> Make:
    """Return what trains a small grid for one quality of pretrained weights and one number of images."""
    name = f"map-{strength}-{n_max}"
    of = glyphs(n_max, 10, "development", *_weights(strength))

    def make() -> Mapping[str, Any]:
        epochs = STRENGTHS[strength]
        if epochs and not (RUNS / strength / "encoder.safetensors").is_file():
            _pretrain("tiny", RUNS / strength, epochs)
        return measure_grid(name, of, seeds=SEEDS[:2], weights=3)()

    return make


def _weights(strength: str) -> tuple[str, ...]:
    epochs = STRENGTHS[strength]
    if epochs is None:
        return ()
    weights = str(RUNS / strength / "encoder.safetensors") if epochs else "random"
    return ("backbone.name=tiny", f"backbone.weights={weights}")


def _pretrain_resnet(of: Set) -> None:
    if RESNET[0] in of.settings and not (RESNET_WEIGHTS / "encoder.safetensors").is_file():
        _pretrain("resnet14", RESNET_WEIGHTS, 10)


def _pretrain(backbone: str, out: Path, epochs: int) -> None:
    words = ["pretrain", "symbols", "--backbone", backbone, "--out", str(out), "--set", f"plan.epochs={epochs}"]
    subprocess.run([sys.executable, "-m", "forktail", *words], check=True)


def _hours(*folders: Path) -> float:
    """Add up what stages and analyses say they took, each once."""
    seconds: dict[str, float] = {}
    for folder in folders:
        for path in folder.glob("*/timing.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines():
                record = json.loads(line)
                if not record["found"]:
                    seconds[f"{path.parent}/{record['stage']}"] = record["seconds"]
    return sum(seconds.values()) / 3600


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def pieces() -> dict[str, Piece]:
    """List all pieces in the order in which they should be made: what later choices rest on comes first."""
    found = [
        *(Piece(f"grid-{name}", of.role, 1.0, measure_grid(f"grid-{name}", of)) for name, of in SETS.items()),
        *(Piece(f"curve-{name}", SETS[name].role, 1.0, measure_curve(f"curve-{name}", SETS[name])) for name in CURVE),
        *(
            Piece(f"map-{strength}-{size}", "development", 0.3, measure_map(strength, size))
            for strength in STRENGTHS
            for size in SIZES
        ),
        *(Piece(f"equal-{name}", SETS[name].role, 1.5, measure_equal(f"equal-{name}", SETS[name])) for name in EQUAL),
    ]
    return {piece.name: piece for piece in sorted(found, key=lambda piece: piece.role == "confirmation")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="pieces; by default all")
    parser.add_argument("--list", action="store_true", help="only say which pieces there are")
    parser.add_argument("--tables", action="store_true", help="only write docs/evidence.md again")
    asked, known = parser.parse_args(), pieces()
    unknown = [name for name in asked.names if name not in known]
    if unknown:
        parser.error(f"no such piece: {', '.join(unknown)}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for piece in () if asked.tables else [known[name] for name in asked.names or known]:
        if asked.list:
            print(f"{piece.name:24} {piece.role:14} {piece.hours:.1f} h  {'there' if piece.path.is_file() else ''}")
        elif asked.names or not piece.path.is_file():
            machine = {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
            content = {"piece": piece.name, "role": piece.role, "machine": machine, **piece.make()}
            piece.path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    if not asked.list:
        PAGE.write_text(evidence_page.page(RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
