"""Train and measure every shared depth and task weight, and hold the criterion's readings against it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from forktail.comparing.compare import Notes, check_holds_runs, opened_once
from forktail.comparing.processes import beside, leave_if_script_is_read_again
from forktail.data.images import DataSet
from forktail.data.open import open_data
from forktail.errors import InputError
from forktail.fitting import fingerprints, make_problem, resolve, shell_command, summary
from forktail.grids import measures
from forktail.grids.cells import Cells
from forktail.grids.columns import Column, measure
from forktail.grids.measures import Measured
from forktail.grids.readings import chosen_readings, default_reading, risk_of
from forktail.methods._method import Problem
from forktail.methods.osdtw import OSDTW
from forktail.recipe import Recipe
from forktail.report.grid_report import write_grid_report
from forktail.run import Run, only_writer
from forktail.training.progress import Progress, Silent
from forktail.training.stage import state_digest

SEEDS = (0, 1, 2)
WEIGHTS = 9
STATES = ("raw", "refined")
FILE = "grid.json"


@dataclass(frozen=True)
class Grid:
    """A folder with the pieces of a grid and, once all are there, what they say together.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def finished(self) -> bool:
        """True once every piece is measured and ``grid.json`` is written."""
        return (self.path / FILE).is_file()

    @cached_property
    def results(self) -> dict[str, Any]:
        """Content of ``grid.json``."""
        return Run(self.path).read_object(FILE)


def grid(
    data: str | Path,
    *,
    weights: int = WEIGHTS,
    depths: Sequence[int] | None = None,
    seeds: Sequence[int] = SEEDS,
    readings: str | Sequence[str] = "usual",
    backbone: str | None = None,
    recipe: str | Path | None = None,
    settings: Iterable[str] = (),
    out: str | Path | None = None,
    cache: str | Path | None = None,
    part: tuple[int, int] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Grid:
    """Train and measure every cell of OSDTW's grid, and say how well each reading of the criterion predicts it.

    Stage 1 is trained once per seed and Stage 2 once per seed and weight; both serve all depths. The same call again
    goes on where it was stopped. A validation part is held out unless the set brings one: ``search_regret`` compares
    the selected cell with a grid search on it.

    Args:
        data: As in `forktail.fit`.
        weights: W, an odd number of the head's weights, evenly spaced inside (0, 1): 9 are 0.1 to 0.9.
        depths: Shared depths s, with the deepest among them; None takes all.
        seeds: Seeds of training; the data set's own chance has ``data.seed``.
        readings: ``usual``, ``all``, or names of readings, see `forktail.grids.readings`.
        backbone: As in `forktail.fit`.
        recipe: As in `forktail.fit`, of ``osdtw``.
        settings: As in `forktail.fit`; the method's reading, depth and weights are the grid's own.
        out: The folder; by default ``runs/<data>-grid``.
        cache: Folder of trained stages; by default in ``out``. Grids that share one train a common stage once.
        part: (i, n) does every n-th piece of the work from the i-th on, i in 1..n, such as a task of a job array.
        jobs: How many pieces at once, as in `forktail.compare`.
        progress: Who is told how far it is.

    Returns:
        The grid; ``finished`` once all parts are done.

    Raises:
        InputError: If the input is at fault, or a piece of the work failed.

    Example:
        >>> quick = ["data.n_max=5", "data.imbalance=1", "plan.epochs=0"]
        >>> quick += ["backbone.name=resnet8", "backbone.weights=random"]
        >>> found = grid("glyphs", weights=1, depths=[0, 3], seeds=[0], readings="sandwich", settings=quick,
        ...              out=folder / "grid")
        >>> [(cell["depth"], cell["weight"]) for cell in found.results["cells"]]
        [(0, None), (3, 0.5)]
    """
    if jobs > 1:
        leave_if_script_is_read_again()
    told = progress or Silent()
    names = chosen_readings(readings)
    _check(weights, seeds, part, jobs)
    own = ["data.validation=true", *settings, f"method.weights={weights}"]
    recipes = [resolve(data, "osdtw", backbone=backbone, recipe=recipe, settings=own, seed=seed) for seed in seeds]
    _check_method(recipes[0].method)
    if recipes[0].plan.flops is not None:
        raise InputError("plan.flops in a grid", expected="plan.epochs", remedy="leave it out: every cell is as long")
    opened = open_data(recipes[0].data, shots=recipes[0].split.shots)
    if opened.val is None:
        raise InputError(
            "no validation images, with which a grid search is made",
            expected="a validation part, or a class with 5 images of which one can be held out",
            remedy="leave data.validation to the grid, or give it more images",
        )
    problem = make_problem(recipes[0], opened)
    cells = Cells(_depths(depths, problem.backbone().depth), tuple((np.arange(weights) + 1) / (weights + 1)))
    folder = Path(out) if out is not None else Path("runs") / f"{Path(recipes[0].data.path).name or 'data'}-grid"
    check_holds_runs(folder, "grid")
    inputs = [_inputs(opened, make_problem(one, opened)) for one in recipes]
    columns = _columns(folder, recipes, cells, names, inputs)
    unseen = int((opened.val.class_counts() == 0).sum())
    blind = f"the grid search is blind to {unseen} classes, of which no validation image could be held out"
    for sentence in [*summary(opened, problem), *([blind] if unseen else [])]:
        told.note(sentence)
    flags = {"weights": weights, "depths": _joined(depths), "seeds": _joined(seeds), "readings": ",".join(names)}
    given = {"backbone": backbone, "recipe": recipe, "out": out, "cache": cache}
    command = shell_command("grid", data, {**flags, **given}, settings)
    mine = columns if part is None else columns[part[0] - 1 :: part[1]]
    _measure(mine, opened, Path(cache) if cache is not None else folder / "stages", jobs, told)
    results = [column.found for column in columns]
    if all(result is not None for result in results):
        with only_writer(folder, wait=True):  # another part may end at the same time
            _write(folder, opened, recipes, cells, [result for result in results if result is not None], command)
    else:
        (folder / FILE).unlink(missing_ok=True)  # it spoke of fewer pieces
        told.note(f"{sum(result is not None for result in results)} of {len(results)} pieces are there; do the others")
    return Grid(folder)


def _check(weights: int, seeds: Sequence[int], part: tuple[int, int] | None, jobs: int) -> None:
    if weights < 1 or weights % 2 == 0:
        raise InputError(f"--weights {weights}", expected="an odd number >= 1, so that 1/2 is among them")
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InputError(f"--seeds {_joined(seeds)}", expected="different numbers >= 0, such as 0,1,2")
    if part is not None and not 1 <= part[0] <= part[1]:
        raise InputError(f"--part {part[0]}/{part[1]}", expected="I/N with 1 <= I <= N, such as 2/10")
    if jobs < 1:
        raise InputError(f"--jobs {jobs}", expected="a number >= 1")


def _check_method(method: object) -> None:
    assert isinstance(method, OSDTW)
    for name in ("depth", "weight"):
        if (value := getattr(method, name)) is not None:
            raise InputError(f"method.{name} = {value} in a grid", remedy=f"leave it out; a grid has all: --{name}s")
    if method.separation:
        raise InputError(
            "method.separation = true in a grid, which measures what sharing is worth", remedy="leave it out"
        )
    if method.refinement != "tasks" or method.calibration:
        raise InputError(
            f'method.refinement = "{method.refinement}", method.calibration = {method.calibration} in a grid',
            expected='"tasks" and false: a grid measures the risk of Bernoulli outputs, of which the criterion speaks',
        )


def _depths(asked: Sequence[int] | None, deepest: int) -> tuple[int, ...]:
    if asked is None:
        return tuple(range(deepest + 1))
    found = tuple(sorted(set(asked)))
    if len(found) != len(asked) or not found or found[0] < 0 or found[-1] != deepest:
        raise InputError(
            f"--depths {_joined(asked)}",
            expected=f"different numbers from 0 to {deepest}, the units of the backbone, with {deepest} among them",
        )
    return found


def _joined(numbers: Sequence[int] | None) -> str | None:
    return None if numbers is None else ",".join(map(str, numbers))


def _inputs(data: DataSet, problem: Problem) -> dict[str, str]:
    """Digest what a recipe only names."""
    return {**fingerprints(data), "weights": state_digest(problem.backbone())}


def _columns(
    folder: Path,
    recipes: Sequence[Recipe],
    cells: Cells,
    readings: tuple[str, ...],
    inputs: Sequence[Mapping[str, str]],
) -> list[Column]:
    """List the pieces: first what every seed needs, so that no process waits for another's Stage 1."""
    shared = tuple(depth for depth in cells.depths if depth > 0)
    alone = tuple(depth for depth in cells.depths if depth == 0)
    first = [
        Column(one, None, alone, readings, seen, folder / "runs" / f"seed-{one.seed}")
        for one, seen in zip(recipes, inputs, strict=True)
    ]
    return first + [
        Column(one, weight, shared, (), seen, folder / "runs" / f"seed-{one.seed}-weight-{weight:.4g}")
        for one, seen in zip(recipes, inputs, strict=True)
        for weight in cells.weights
    ]


def _measure(columns: Sequence[Column], data: DataSet, cache: Path, jobs: int, progress: Progress) -> None:
    """Do the pieces that are not done yet."""
    waiting = [column for column in columns if column.found is None]
    if len(waiting) < len(columns):
        progress.note(f"{len(columns) - len(waiting)} of {len(columns)} pieces were there already")
    if jobs == 1:
        done = _here(waiting, data, cache, progress)
    else:
        threads = max(1, torch.get_num_threads() // jobs)
        work = partial(_alone, cache=cache, threads=threads)
        done = beside(waiting, work, jobs, lambda column, text: progress.note(f"{column.name}: {text}"))
    failed = []
    for number, (column, problem) in enumerate(done, start=1):
        progress.note(f"{number} of {len(waiting)}: {column.name}: {problem or 'measured'}")
        if problem is not None:
            failed.append(f"{column.name}: {problem}")
    if failed:
        raise InputError("; ".join(failed), remedy="mend it and give the command again; what is measured stays")


def _here(
    columns: Sequence[Column], data: DataSet, cache: Path, progress: Progress
) -> Iterator[tuple[Column, str | None]]:
    for column in columns:
        try:
            measure(column, data, cache, progress)
        except InputError as error:
            yield column, str(error)
        else:
            yield column, None


def _alone(column: Column, note: Any, *, cache: Path, threads: int) -> str | None:
    """Do one piece in another process; say why it failed."""
    torch.set_num_threads(threads)
    try:
        data = opened_once(column.recipe.data, shots=column.recipe.split.shots)
    except InputError as error:
        return str(error)
    [(_, problem)] = _here([column], data, cache, Notes(note))
    return problem


def _write(
    folder: Path,
    data: DataSet,
    recipes: Sequence[Recipe],
    cells: Cells,
    results: Sequence[Mapping[str, Any]],
    command: str,
) -> None:
    """Lay all pieces together."""
    method = recipes[0].method
    assert isinstance(method, OSDTW)
    seeds = [recipe.seed for recipe in recipes]
    predicted = {result["seed"]: result["predicted"] for result in results if result["weight"] is None}
    content = {
        "data": data.name,
        "command": command,
        "depths": list(cells.depths),
        "weights": list(cells.weights),
        "seeds": seeds,
        "rule": method.rule,
        "selects_by": default_reading(),
        "training_images": len(data.train),
        "classes_without_validation": 0 if data.val is None else int((data.val.class_counts() == 0).sum()),
        "flops": _flops(results),
        "cells": [
            {"seed": result["seed"], "weight": result["weight"], **cell}
            for result in results
            for cell in result["cells"]
        ],
        "drift": [
            {"seed": result["seed"], "weight": result["weight"], "layers": result["drift"]}
            for result in results
            if result["weight"] is not None
        ],
        "predicted": {name: {str(seed): predicted[seed][name] for seed in seeds} for name in predicted[seeds[0]]},
    }
    Run(folder).write_json(FILE, {**content, "measures": measured_against(content)})
    write_grid_report(folder)


def _flops(results: Sequence[Mapping[str, Any]]) -> float:
    """Floating-point operations of all stages and analyses, each counted once."""
    return float(sum({mark: flops for result in results for mark, flops in result["stages"].items()}.values()))


def measured_against(content: Mapping[str, Any]) -> list[dict[str, object]]:
    """Hold every reading against the raw and the refined networks, on validation and on test.

    Args:
        content: What ``grid.json`` holds but for ``measures``.

    Returns:
        One record of `forktail.grids.measures.summary` for each reading, state and split, with the name of the ``risk``
        that the reading predicts; a reading without a table for every seed has ``reason`` in place of numbers.
    """
    cells, seeds = Cells(tuple(content["depths"]), tuple(content["weights"])), content["seeds"]
    records: list[dict[str, object]] = []
    for name, by_seed in content["predicted"].items():
        reasons = [by_seed[str(seed)]["reason"] for seed in seeds if by_seed[str(seed)]["table"] is None]
        for state in STATES:
            for split in ("validation", "test"):
                if reasons:
                    facts = {"data": content["data"], "reading": name, "state": state, "split": split}
                    records.append({**facts, "risk": risk_of(name), "reason": reasons[0]})
                    continue
                found = measures.summary(
                    cells,
                    {seed: np.array(by_seed[str(seed)]["table"])[list(cells.depths)] for seed in seeds},
                    {seed: _tables(content, cells, seed, state, risk_of(name)) for seed in seeds},
                    np.random.default_rng(0),
                    data=content["data"],
                    reading=name,
                    state=state,
                    split=split,
                )
                records.append({**found, "risk": risk_of(name)})
    return records


def _tables(content: Mapping[str, Any], cells: Cells, seed: int, state: str, risk: str) -> dict[str, Measured]:
    """Collect one seed's measured risk, of the prior that the reading speaks of, and error."""
    rule = content["rule"]

    def collect(split: str, pick: Any) -> npt.NDArray[np.float64]:
        table = np.full((len(cells.depths), len(cells.weights)), np.nan)
        for cell in content["cells"]:
            if cell["seed"] == seed:
                row = cells.depths.index(cell["depth"])
                column = slice(None) if cell["weight"] is None else cells.weights.index(cell["weight"])
                table[row, column] = pick(cell[state][split])
        return table

    return {
        split: Measured(
            risk=collect(split, lambda found: found[risk]),
            error=collect(split, lambda found: 1 - found[rule]["balanced"]),
        )
        for split in ("validation", "test")
    }
