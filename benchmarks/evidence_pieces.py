"""The pieces of docs/evidence.md, a file each: grids, curves, comparisons, distances of Stage 1, the map."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evidence_sets import (
    BASELINES,
    CONTESTANTS,
    CURVE_SEEDS,
    CURVES,
    EQUAL,
    EQUAL_SEEDS,
    LEAST_GAIN,
    MAP,
    OPTIONS,
    OPTIONS_EPOCHS,
    OPTIONS_OF,
    SEEDS,
    SETS,
    STRENGTHS,
    Role,
    Set,
    glyphs,
)

import forktail
from forktail.backbones.forked import Forked
from forktail.cli.progress import watcher
from forktail.comparing.compare import Comparison
from forktail.comparing.contestant import Contestant
from forktail.comparing.statistics import mean, standard_error
from forktail.data.open import open_data
from forktail.errors import InputError
from forktail.fitting import make_problem, resolve
from forktail.grids.readings import PLAIN, READINGS, chosen_readings, default_reading
from forktail.methods import Method, find_method
from forktail.methods._distances import separation
from forktail.methods.osdtw import OSDTW
from forktail.run import Run
from forktail.training.plan import Plan
from methods import RESNET, pretrain, pretrain_resnet

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "evidence"
RUNS = Path("runs/evidence")
JOBS = 2
CHANGES_NOTHING = {"separation": False}  # options that train and select as if they did not exist, and their value then

Make = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Piece:
    """What one process makes in one go.

    Args:
        name: Its name, and that of its file.
        role: What its test part is for.
        make: Makes its result.
        made_with: All that decides the result, as JSON gives it back.
    """

    name: str
    role: Role
    make: Make
    made_with: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Where its result is kept."""
        return RESULTS / f"{self.name}.json"

    @property
    def hours(self) -> float:
        """CPU hours that it took, or should take, on the machine of the committed results."""
        if self.path.is_file():
            taken: float = json.loads(self.path.read_text(encoding="utf-8"))["cpu_hours"]
            return taken
        return HOURS.get(self.name, OTHERWISE)

    @property
    def state(self) -> str:
        """``there``, ``missing``, or ``changed`` where it was made with other settings or defaults."""
        if not self.path.is_file():
            return "missing"
        same = json.loads(self.path.read_text(encoding="utf-8")).get("made_with") == self.made_with
        return "there" if same else "changed"


def grid_piece(name: str, of: Set, *, seeds: Sequence[int] = SEEDS, readings: str | None = None) -> Piece:
    """Describe the grid of a set: every depth and weight, trained and measured; to confirm, by the default reading."""
    readings = readings or (default_reading() if of.role == "confirmation" else "usual")
    settings = [*of.settings, f"plan.epochs={of.epochs}"]
    axes = {"depths": list(of.depths), "weights": of.weights, "seeds": list(seeds)}
    # A grid sets by itself what selects, and measures every choice.
    free = {*PLAIN, "reading", "groups", "weights", "depth", "weight"}
    defaults = {key: value for key, value in _options(OSDTW()).items() if key not in free}
    meant = {reading: READINGS[reading] for reading in chosen_readings(readings)}
    decides = {"settings": settings, **axes, "defaults": defaults, "plan": dataclasses.asdict(Plan())}
    made_with = _plain({**decides, "readings": meant})

    def make() -> Mapping[str, Any]:
        if RESNET[0] in of.settings:
            pretrain_resnet()
        with watcher() as progress:
            found = forktail.grid(
                of.data,
                weights=of.weights,
                depths=of.depths,
                seeds=seeds,
                readings=readings,
                settings=settings,
                out=RUNS / name / _mark({**made_with, "method": dataclasses.asdict(OSDTW())}),
                cache=RUNS / "stages",
                jobs=JOBS,
                progress=progress,
            )
        return {**found.results, "cpu_hours": _hours(found.path / "runs")}

    return Piece(name, of.role, make, made_with)


def curve_piece(name: str, of: Set, lengths: Sequence[int]) -> Piece:
    """Describe how the baselines improve with the length of training, on validation."""
    settings = ["data.validation=true", *of.settings]
    axes = {"lengths": list(lengths), "seeds": list(CURVE_SEEDS)}
    made_with = _plain({"settings": settings, **axes, **_defaults(BASELINES)})

    def make() -> Mapping[str, Any]:
        rows = []
        for epochs in lengths:
            place = RUNS / name / _mark(made_with) / str(epochs)
            _compare(of, BASELINES, CURVE_SEEDS, [*settings, f"plan.epochs={epochs}"], place, budget="epochs")
            for method in BASELINES:
                for seed in CURVE_SEEDS:
                    accuracy = _on_validation(place / "runs" / f"{method}-{seed}")
                    rows.append({"method": method, "seed": seed, "epochs": epochs, "validation": accuracy})
        hours_of = _hours(*(RUNS / name / _mark(made_with)).glob("*/runs"))
        return {"data": of.data, "rows": rows, "cpu_hours": hours_of}

    return Piece(name, of.role, make, made_with)


def converged(curve: Mapping[str, Any]) -> int:
    """Return the shortest length of the best baseline after which no longer one improves it on validation.

    No improvement is a gain, paired by seed, of less than half a point or than its standard error. The longest length
    is returned where the curve still rises there; the page says so.
    """
    lengths: list[int] = sorted({row["epochs"] for row in curve["rows"]})
    by = {(row["method"], row["epochs"], row["seed"]): row["validation"] for row in curve["rows"]}
    seeds = sorted({row["seed"] for row in curve["rows"]})

    def of(method: str, epochs: int) -> list[float]:
        return [by[method, epochs, seed] for seed in seeds]

    best = max(BASELINES, key=lambda method: max(mean(of(method, epochs)) or 0.0 for epochs in lengths))

    def improves(shorter: int, longer: int) -> bool:
        gain = [after - before for after, before in zip(of(best, longer), of(best, shorter), strict=True)]
        return (mean(gain) or 0.0) >= max(LEAST_GAIN, standard_error(gain) or 0.0)

    return next(one for one in lengths if not any(improves(one, longer) for longer in lengths if longer > one))


def equal_piece(name: str, of: Set) -> Piece:
    """Describe the comparison at equal compute, as long as the curve says."""
    path = RESULTS / f"curve-{of.curve}.json"
    curve = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    epochs = None if curve is None else converged(curve)
    axes = {"epochs": epochs, "seeds": list(EQUAL_SEEDS)}
    made_with = _plain({"settings": list(of.settings), **axes, **_defaults(CONTESTANTS)})

    def make() -> Mapping[str, Any]:
        if curve is None or epochs is None:
            raise InputError(f"no {path.name}", expected=f"curve-{of.curve}, which says how long {name} trains")
        settings = [*of.settings, f"plan.epochs={epochs}"]
        found = _compare(of, CONTESTANTS, EQUAL_SEEDS, settings, RUNS / name / _mark(made_with))
        rises = epochs == max(row["epochs"] for row in curve["rows"])
        return {**found.results, "epochs": epochs, "curve_rises": rises, "cpu_hours": _hours(found.path / "runs")}

    return Piece(name, of.role, make, made_with)


def options_piece(name: str, of: Set, methods: Sequence[str]) -> Piece:
    """Describe a comparison of the method's options on validation."""
    settings = ["data.validation=true", *of.settings, f"plan.epochs={OPTIONS_EPOCHS}"]
    axes = {"methods": list(methods), "seeds": list(CURVE_SEEDS)}
    made_with = _plain({"settings": settings, **axes, **_defaults(methods)})

    def make() -> Mapping[str, Any]:
        found = _compare(of, methods, CURVE_SEEDS, settings, RUNS / name / _mark(made_with))
        rows = [
            {"method": method["label"], "seed": one["seed"], "validation": _on_validation(found.path / run)}
            for method in found.results["methods"]
            for one, run in zip(method["per_seed"], method["runs"], strict=True)
        ]
        facts = {"data": of.data, "epochs": OPTIONS_EPOCHS, "left_out": found.results["left_out"]}
        return {**facts, "rows": rows, "cpu_hours": _hours(found.path / "runs")}

    return Piece(name, of.role, make, made_with)


def separation_piece(name: str, of: Set) -> Piece:
    """Describe how far apart head and tail of a set go in Stage 1."""
    decides = ("tau", "stage1_epochs", "stage1_images", "stage1_decay")
    defaults = {option: getattr(OSDTW(), option) for option in decides}
    axes = {"settings": list(of.settings), "epochs": of.epochs, "seeds": list(SEEDS)}
    made_with = _plain({**axes, "defaults": defaults, "plan": dataclasses.asdict(Plan())})

    def make() -> Mapping[str, Any]:
        if RESNET[0] in of.settings:
            pretrain_resnet()
        folder = RUNS / name / _mark(made_with)
        trainings = [_stage1(of, seed, folder / f"seed-{seed}") for seed in SEEDS]
        return {"data": of.data, **dataclasses.asdict(separation(trainings)), "cpu_hours": _hours(folder)}

    return Piece(name, of.role, make, made_with)


def _stage1(of: Set, seed: int, out: Path) -> list[Forked]:
    """Train, or load, the Stage 1 of a grid's seed."""
    settings = ["data.validation=true", *of.settings, f"plan.epochs={of.epochs}"]
    recipe = resolve(of.data, "osdtw", settings=settings, seed=seed)
    assert isinstance(recipe.method, OSDTW)
    problem = make_problem(recipe, open_data(recipe.data, shots=recipe.split.shots))
    with watcher() as progress:
        return recipe.method.specialists(problem, recipe.engine(Run(out), cache=RUNS / "stages", progress=progress))


def map_piece(strength: str, n_max: int) -> Piece:
    """Describe a small grid for one quality of pretrained weights and one number of images."""
    of = glyphs(n_max, 10, "development", *_weights(strength), weights=3)
    piece = grid_piece(f"map-{strength}-{n_max}", of, seeds=SEEDS[:2], readings=default_reading())

    def make() -> Mapping[str, Any]:
        epochs = STRENGTHS[strength]
        if epochs:
            pretrain("tiny", RUNS / strength, epochs)
        return piece.make()

    return dataclasses.replace(piece, make=make)


def _weights(strength: str) -> tuple[str, ...]:
    epochs = STRENGTHS[strength]
    if epochs is None:
        return ()
    weights = str(RUNS / strength / "encoder.safetensors") if epochs else "random"
    return ("backbone.name=tiny", f"backbone.weights={weights}")


def _defaults(methods: Sequence[str]) -> dict[str, Any]:
    """Everything that settings do not say of a comparison: defaults of its methods and of a plan."""

    def of(contestant: Contestant) -> dict[str, Any]:
        given = {option.partition("=")[0] for option in contestant.options}
        options = _options(find_method(contestant.method)())
        return {key: value for key, value in options.items() if key not in given}

    kinds = {method: of(Contestant.parse(method)) for method in methods}
    return {"methods": kinds, "plan": dataclasses.asdict(Plan())}


def _options(method: Method) -> dict[str, Any]:
    """Return what decides what a method trains and selects."""
    options = dataclasses.asdict(method)
    return {key: value for key, value in options.items() if CHANGES_NOTHING.get(key, not value) != value}


def _compare(
    of: Set,
    methods: Sequence[str],
    seeds: Sequence[int],
    settings: Sequence[str],
    out: Path,
    budget: Literal["epochs", "compute"] = "compute",
) -> Comparison:
    """Compare methods on a set; a call that was interrupted goes on where it was."""
    with watcher() as progress:
        return forktail.compare(
            of.data, methods, budget=budget, seeds=seeds, settings=settings, out=out, jobs=JOBS, progress=progress
        )


def _on_validation(run: Path) -> float:
    accuracy: float = Run(run).read_object("validation.json")["accuracy"]["balanced"]
    return accuracy


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON would give back."""
    found: dict[str, Any] = json.loads(json.dumps(content))
    return found


def _mark(made_with: Mapping[str, Any]) -> str:
    """Name the folder of what was made with just this."""
    return hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:12]


def _hours(*folders: Path) -> float:
    """Add up what stages and analyses took when they were made, each once, whoever made it."""
    seconds: dict[str, float] = {}
    for folder in folders:
        for path in folder.glob("*/timing.jsonl"):
            clock = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            stages = Run(path.parent).read_json("stages.json")
            for stage, record in zip(stages, clock, strict=True):
                seconds[stage["fingerprint"]] = record["seconds"]
    return sum(seconds.values()) / 3600


# What is not measured yet is estimated.
HOURS = {
    **dict.fromkeys(("grid-glyphs-200", "grid-glyphs-resnet"), 0.2),
    **{f"separation-{name}": 0.02 for name in SETS},
    **{f"map-{strength}-{size}": size / 120 for strength, size in MAP},
    "equal-mismatch-75": 1.6,
}
OTHERWISE = 0.3


def pieces() -> dict[str, Piece]:
    """List all pieces in the order in which they should be made: what later choices rest on comes first."""
    found = [
        *(grid_piece(f"grid-{name}", of) for name, of in SETS.items()),
        *(curve_piece(f"curve-{name}", SETS[name], lengths) for name, lengths in CURVES.items()),
        *(options_piece(f"{kind}-{name}", SETS[name], OPTIONS[kind]) for kind in OPTIONS for name in OPTIONS_OF),
        *(separation_piece(f"separation-{name}", of) for name, of in SETS.items() if of.role != "variant"),
        *(map_piece(strength, size) for strength, size in MAP),
        *(equal_piece(f"equal-{name}", SETS[name]) for name in EQUAL),
    ]
    return {piece.name: piece for piece in sorted(found, key=lambda piece: piece.role == "confirmation")}
