"""Train several methods on the same data with several seeds, and lay them side by side."""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from forktail.comparing.contestant import Contestant, read_contestants
from forktail.comparing.results import as_csv, runs_as_csv, table
from forktail.data.images import DataSet
from forktail.data.open import DataSpec, open_data
from forktail.errors import InputError, nearest
from forktail.fitting import check_place, fit_recipe, make_problem, resolve, shell_command, summary
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods import Problem
from forktail.recipe import Recipe
from forktail.report.comparison_report import write_comparison_report
from forktail.run import Run, only_writer
from forktail.training.cost import training_cost
from forktail.training.objective import Supervised
from forktail.training.plan import Plan
from forktail.training.progress import Progress, Silent

Budget = Literal["epochs", "compute"]
METHODS = ("osdtw", "ce", "logit_adjustment")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Comparison:
    """A finished comparison: a folder with the runs and what they say together.

    Args:
        path: The folder.
    """

    path: Path

    @cached_property
    def results(self) -> dict[str, Any]:
        """Content of ``comparison.json``."""
        content: dict[str, Any] = Run(self.path).read_json("comparison.json")
        return content


@dataclass(frozen=True)
class Entry:
    """One run of a comparison.

    Args:
        contestant: What is trained.
        seed: With which seed.
        recipe: All that decides it.
        out: Its run directory.
    """

    contestant: Contestant
    seed: int
    recipe: Recipe
    out: Path


def compare(
    data: str | Path,
    methods: str | Sequence[str] = METHODS,
    *,
    budget: Budget = "epochs",
    seeds: Sequence[int] = SEEDS,
    backbone: str | None = None,
    recipe: str | Path | None = None,
    settings: Iterable[str] = (),
    out: str | Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Comparison:
    """Compare methods on the same data: same images, same initial weights, same order of images for the same seed.

    The same call again goes on where it was stopped; more methods or seeds are added to what is there. A stage that
    several methods have in common is trained once.

    Args:
        data: As in `forktail.fit`.
        methods: At least two, each ``name`` or ``name:key=value`` with options of its own.
        budget: ``epochs``: every stage of every method has the plan's epochs, so that a method with several stages
            costs more. ``compute``: every method may use the floating-point operations of the plan's epochs of
            ordinary training.
        seeds: Seeds of training; the data set's own chance has ``data.seed``.
        backbone: As in `forktail.fit`.
        recipe: As in `forktail.fit`.
        settings: As in `forktail.fit`, but none of ``method.``.
        out: The folder; by default ``runs/<data>-comparison``.
        jobs: How many runs at once, each in a process of its own with its share of the processor's threads. Sums are
            split by threads, so another number changes results by rounding.
        progress: Who is told how far it is.

    Returns:
        The comparison.

    Raises:
        InputError: If the input is at fault, or a run could not be finished; the others are kept.

    Example:
        >>> quick = ["data.n_max=4", "data.imbalance=2", "plan.epochs=1"]
        >>> found = compare("glyphs", "ce,balanced_softmax", seeds=[0], settings=quick, out=folder / "comparison")
        >>> sorted(row["label"] for row in found.results["methods"])
        ['balanced_softmax', 'ce']
    """
    settings, told = list(settings), progress or Silent()
    contestants = read_contestants(methods)
    _check(budget, seeds, settings, jobs)
    plain = resolve(data, "ce", backbone=backbone, recipe=recipe, settings=settings)
    folder = Path(out) if out is not None else Path("runs") / f"{Path(plain.data.path).name or 'data'}-comparison"
    opened = open_data(plain.data, shots=plain.split.shots)
    problem = make_problem(plain, opened)
    said, plan = _plan(budget, plain.plan, problem)
    entries = []
    for seed in seeds:
        for one in contestants:
            own = [*settings, *one.settings]
            full = resolve(data, one.method, backbone=backbone, recipe=recipe, settings=own, seed=seed)
            place = folder / "runs" / f"{one.folder}-{seed}"
            entries.append(Entry(one, seed, dataclasses.replace(full, plan=plan), place))
    _check_folder(folder, entries)
    for sentence in [*summary(opened, problem), said]:
        told.note(sentence)
    names = ",".join(contestant.label for contestant in contestants)
    asked = {"methods": names, "budget": budget, "seeds": ",".join(map(str, seeds))}
    given = {"backbone": backbone, "recipe": recipe, "out": out}
    command = shell_command("compare", data, {**asked, **given}, settings)
    with only_writer(folder):
        failed = _train(entries, folder / "stages", opened, command, jobs, told)
        facts = {"data": opened.name, "command": command, "budget": budget, "budget_text": said, "seeds": list(seeds)}
        _write(folder, entries, facts, failed)
    if failed:
        raise InputError(
            f"{len(failed)} of {len(entries)} runs failed: {'; '.join(f'{_name(e)}: {why}' for e, why in failed)}",
            remedy=f"the others are in {folder / 'compare.html'}; mend it and give the command again",
        )
    return Comparison(folder)


def _check(budget: str, seeds: Sequence[int], settings: Sequence[str], jobs: int) -> None:
    if budget not in get_args(Budget):
        raise InputError(f'--budget "{budget}"', remedy=nearest(budget, get_args(Budget)))
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InputError(f"--seeds {','.join(map(str, seeds))}", expected="different numbers >= 0, such as 0,1,2")
    if jobs < 1:
        raise InputError(f"--jobs {jobs}", expected="a number >= 1")
    for setting in settings:
        if setting.startswith("method."):
            key = setting.removeprefix("method.")
            raise InputError(f"--set {setting} in a comparison", remedy=f"say of which method: --methods NAME:{key}")
        if setting.partition("=")[0].strip() == "seed":
            raise InputError(f"--set {setting} in a comparison", remedy="use --seeds")


def _plan(budget: Budget, plan: Plan, problem: Problem) -> tuple[str, Plan]:
    """Turn the budget into a plan, and say what it is."""
    if budget == "epochs":
        if plan.flops is not None:
            raise InputError("plan.flops with --budget epochs", remedy="use --budget compute")
        return f"every stage of every method has {plan.epochs} epochs", plan
    flops = plan.flops
    said = "as plan.flops says"
    if flops is None:
        network = problem.network()
        side = problem.preprocess.size
        cost = training_cost(Supervised(network, CrossEntropy()), (3, side, side), problem.counts.num_classes)
        images = plan.epochs * plan.steps_per_epoch(len(problem.train)) * min(plan.batch_size, len(problem.train))
        flops = float(cost.flops * images)
        said = f"what {plan.epochs} epochs of ordinary training take"
    if flops <= 0:
        raise InputError(f"plan.epochs = {plan.epochs} with --budget compute", expected="at least one epoch")
    text = f"every method may use {flops / 1e12:.4g} TFLOP for training, {said}"
    return text, dataclasses.replace(plan, flops=flops)


def _check_folder(folder: Path, entries: Sequence[Entry]) -> None:
    """Refuse a folder that holds something else, before anything is trained."""
    if folder.is_dir() and not (folder / "runs").is_dir() and any(e.name != ".lock" for e in folder.iterdir()):
        raise InputError(f"{folder}: holds other files and no comparison", remedy="choose another --out")
    for entry in entries:
        try:
            check_place(Run(entry.out), entry.recipe)
        except InputError as error:
            raise InputError(error.found, remedy="choose another --out for the comparison") from None


def _train(
    entries: Sequence[Entry], cache: Path, data: DataSet, command: str, jobs: int, progress: Progress
) -> list[tuple[Entry, str]]:
    """Do the runs that are not done yet.

    Returns:
        Those that failed through their input, such as a learning rate at which they diverge, and why.
    """
    failed = []
    waiting = [entry for entry in entries if not Run(entry.out).finished]
    if len(waiting) < len(entries):
        progress.note(f"{len(entries) - len(waiting)} of {len(entries)} runs were there already")
    done = _here(waiting, cache, data, command, progress) if jobs == 1 else _beside(waiting, cache, command, jobs)
    for number, (entry, problem) in enumerate(done, start=1):
        if problem is None:
            reached = f"balanced {100 * Run(entry.out).metrics['accuracy']['balanced']:.1f}"
        else:
            failed.append((entry, problem))
            reached = problem
        progress.note(f"{number} of {len(waiting)}: {_name(entry)}: {reached}")
    return failed


def _here(
    entries: Sequence[Entry], cache: Path, data: DataSet, command: str, progress: Progress
) -> Iterator[tuple[Entry, str | None]]:
    """One run after the other, in this process."""
    for entry in entries:
        try:
            fit_recipe(entry.recipe, entry.out, data=data, cache=cache, progress=progress, command=command)
        except InputError as error:
            yield entry, str(error)
        else:
            yield entry, None


def _beside(entries: Sequence[Entry], cache: Path, command: str, jobs: int) -> Iterator[tuple[Entry, str | None]]:
    """Several runs at once, each in a process of its own."""
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads half alive
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare, initargs=(threads,))
    try:
        running: list[tuple[Entry, Future[str | None]]] = [
            (entry, pool.submit(_alone, entry, cache, command)) for entry in entries
        ]
        for entry, future in running:
            yield entry, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(threads: int) -> None:
    """Set up a process: Ctrl-C is for whoever is at work, so that an idle process ends without a word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)


def _alone(entry: Entry, cache: Path, command: str) -> str | None:
    """Do one run; say why it failed."""
    with _interruptible():
        try:
            data = _opened(entry.recipe.data, entry.recipe.split.shots)
            fit_recipe(entry.recipe, entry.out, data=data, cache=cache, command=command)
        except InputError as error:
            return str(error)
    return None


@contextmanager
def _interruptible() -> Iterator[None]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@lru_cache(maxsize=1)
def _opened(spec: DataSpec, shots: str) -> DataSet:
    """Open the data once in each process."""
    return open_data(spec, shots=shots)


def _write(folder: Path, entries: Sequence[Entry], facts: dict[str, Any], failed: Sequence[tuple[Entry, str]]) -> None:
    """Lay the methods side by side that were trained with every seed."""
    broken = {entry.contestant for entry, _ in failed}
    runs: dict[Contestant, list[tuple[int, Run]]] = {}
    for entry in entries:
        if entry.contestant not in broken:
            runs.setdefault(entry.contestant, []).append((entry.seed, Run(entry.out)))
    if not runs:
        return
    results = table(runs)
    left_out = [{"label": entry.contestant.label, "seed": entry.seed, "reason": why} for entry, why in failed]
    first = Run(entries[0].out) if entries[0].contestant in runs else next(iter(runs.values()))[0][1]
    place = Run(folder)
    place.write_text("comparison.csv", as_csv(results))
    place.write_text("runs.csv", runs_as_csv(results))
    groups = first.metrics["groups"]
    place.write_json("comparison.json", {**facts, "groups": groups, **results, "left_out": left_out})
    write_comparison_report(folder)


def _name(entry: Entry) -> str:
    return f"{entry.contestant.label}, seed {entry.seed}"
