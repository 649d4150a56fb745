"""Train several methods on the same data with several seeds, and lay them side by side."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, final, get_args

import torch

from forktail.comparing.contestant import Contestant, read_contestants
from forktail.comparing.defaults import BUDGET, METHODS, SEEDS
from forktail.comparing.processes import beside, leave_if_script_is_read_again
from forktail.comparing.results import as_csv, runs_as_csv, table
from forktail.data.images import DataSet
from forktail.data.open import open_data
from forktail.errors import InputError, nearest
from forktail.fitting import check_place, fit_recipe, make_problem, resolve, shell_command, summary, trained_on
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
    budget: Budget = BUDGET,
    seeds: Sequence[int] = SEEDS,
    backbone: str | None = None,
    recipe: str | Path | None = None,
    settings: Iterable[str] = (),
    out: str | Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Comparison:
    """Compare methods on the same data: the same images and, for the same seed, the same initial weights.

    The same call again goes on where it was stopped. Runs that are there are used again when more methods or seeds are
    asked for; the table shows what the last call asked for. A stage that several methods have in common is trained
    once.

    Differences are taken from one baseline, and the test pictures do not choose it: it is the best on validation
    pictures where every class has some (``data.validation=true``, a validation part of your own), else the first that
    is named.

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
        jobs: How many runs at once, in as many processes with their share of the processor's threads. Sums are split by
            threads, so another number changes results by rounding. Every process reads the script that calls this: its
            work stands under ``if __name__ == "__main__":``.
        progress: Who is told how far it is.

    Returns:
        The comparison. A method of which a run failed, as by divergence, is left out of the table;
        ``results["left_out"]`` says why, and so does ``progress``.

    Raises:
        InputError: If the input is at fault, no method could be trained with every seed, or ``jobs`` > 1 is asked for
            in a script without ``if __name__ == "__main__":``.

    Example:
        >>> quick = ["data.n_max=4", "data.imbalance=2", "plan.epochs=1"]
        >>> found = compare("glyphs", "ce,balanced_softmax", seeds=[0], settings=quick, out=folder / "comparison")
        >>> sorted(row["label"] for row in found.results["methods"])
        ['balanced_softmax', 'ce']
    """
    if jobs > 1:
        leave_if_script_is_read_again()
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
    _check_folder(folder, entries, opened)
    for sentence in [*summary(opened, problem), said]:
        told.note(sentence)
    names = ",".join(contestant.label for contestant in contestants)
    flags = {"methods": names, "budget": budget, "seeds": ",".join(map(str, seeds))}
    given = {"backbone": backbone, "recipe": recipe, "out": out}
    command = shell_command("compare", data, {**flags, **given}, settings)
    with only_writer(folder):
        failed = _train(entries, folder / "stages", opened, command, jobs, told)
        facts = {"data": opened.name, "command": command, "budget": budget, "budget_text": said, "seeds": list(seeds)}
        _write(folder, entries, facts, failed)
    return Comparison(folder)


# All runs of a process are of the same pictures.
opened_once = functools.lru_cache(maxsize=1)(open_data)


def _check(budget: str, seeds: Sequence[int], settings: Sequence[str], jobs: int) -> None:
    if budget not in get_args(Budget):
        raise InputError(f'--budget "{budget}"', remedy=nearest(budget, get_args(Budget)))
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InputError(f"--seeds {','.join(map(str, seeds))}", expected="different numbers >= 0, such as 0,1,2")
    if jobs < 1:
        raise InputError(f"--jobs {jobs}", expected="a number >= 1")
    for setting in settings:
        key, _, value = setting.partition("=")
        table, _, option = (part.strip() for part in key.partition("."))
        if table == "method":
            said = f"{option or 'KEY'}={value}" if option else "KEY=VALUE"
            raise InputError(f"--set {setting} in a comparison", remedy=f"say of which method: --methods NAME:{said}")
        if table == "seed":
            raise InputError(f"--set {setting} in a comparison", remedy="use --seeds")


def _plan(budget: Budget, plan: Plan, problem: Problem) -> tuple[str, Plan]:
    """Turn the budget into a plan, and say what it is."""
    if budget == "epochs":
        if plan.flops is not None:
            raise InputError("plan.flops with --budget epochs", remedy="use --budget compute")
        return f"every stage of every method has {plan.epochs} epochs", plan
    if plan.epochs < 1:
        raise InputError(f"plan.epochs = {plan.epochs} with --budget compute", expected="at least one epoch")
    flops = plan.flops
    said = "as plan.flops says"
    if flops is None:
        network = problem.network()
        shape, num_classes = problem.preprocess.shape, problem.counts.num_classes
        cost = training_cost(Supervised(network, CrossEntropy()), shape, num_classes)
        images = plan.epochs * plan.steps_per_epoch(len(problem.train)) * min(plan.batch_size, len(problem.train))
        flops = float(cost.flops * images)
        said = f"what {plan.epochs} epochs of ordinary training take"
    text = f"every method may use {flops / 1e12:.4g} TFLOP for training, {said}"
    return text, dataclasses.replace(plan, flops=flops)


def _check_folder(folder: Path, entries: Sequence[Entry], data: DataSet) -> None:
    """Refuse a folder that holds something else, before anything is trained."""
    check_holds_runs(folder, "comparison")
    for entry in entries:
        try:
            check_place(Run(entry.out), entry.recipe)
        except InputError as error:
            raise InputError(error.found, remedy="choose another --out for the comparison") from None
        if Run(entry.out).finished and not trained_on(Run(entry.out), data):
            raise InputError(
                f"{entry.out}: trained on other pictures than {data.name} holds now",
                expected="the same pictures for all runs",
                remedy="choose another --out for the comparison",
            )


def check_holds_runs(folder: Path, what: str) -> None:
    """Refuse a folder that holds files and no runs, to which several runs shall be written.

    Args:
        folder: The folder; it need not exist.
        what: What is written there, for the message.

    Raises:
        InputError: If it holds something else.
    """
    ours = any((folder / name).is_dir() for name in ("runs", "stages"))
    if folder.is_dir() and not ours and any(entry.name != ".lock" for entry in folder.iterdir()):
        raise InputError(f"{folder}: holds other files and no {what}", remedy="choose another --out")


def _train(
    entries: Sequence[Entry], cache: Path, data: DataSet, command: str, jobs: int, progress: Progress
) -> list[tuple[Entry, str]]:
    """Do the runs that are not done yet.

    Returns:
        Those that failed, such as by a learning rate at which they diverge, and why.
    """
    failed = []
    waiting = [entry for entry in entries if not Run(entry.out).finished or not (entry.out / "report.html").is_file()]
    if len(waiting) < len(entries):
        progress.note(f"{len(entries) - len(waiting)} of {len(entries)} runs were there already")
    if jobs == 1:
        done = _here(waiting, cache, data, command, progress)
    else:
        threads = max(1, torch.get_num_threads() // jobs)
        work = partial(_alone, cache=cache, command=command, threads=threads)
        done = beside(waiting, work, jobs, lambda entry, text: progress.note(f"{_name(entry)}: {text}"))
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


def _alone(entry: Entry, note: Callable[[str], None], *, cache: Path, command: str, threads: int) -> str | None:
    """Do one run in another process; say why it failed."""
    torch.set_num_threads(threads)
    try:
        data = opened_once(entry.recipe.data, shots=entry.recipe.split.shots)
        fit_recipe(entry.recipe, entry.out, data=data, cache=cache, progress=Notes(note), command=command)
    except InputError as error:
        return str(error)
    return None


@final
class Notes(Silent):
    """Passes sentences on, and says which stage begins; several bars at once would be too many.

    Args:
        tell: Hears them.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell

    def note(self, text: str) -> None:
        """Pass it on."""
        self.tell(text)

    def begin(self, stage: str, done: int, total: int) -> None:
        """Say what begins."""
        self.tell(f"{stage}: from step {done} to {total}" if done else f"{stage}: {total} steps")


def _write(folder: Path, entries: Sequence[Entry], facts: dict[str, Any], failed: Sequence[tuple[Entry, str]]) -> None:
    """Lay the methods side by side that were trained with every seed."""
    broken = {entry.contestant for entry, _ in failed}
    runs: dict[Contestant, list[tuple[int, Run]]] = {}
    for entry in entries:
        if entry.contestant not in broken:
            runs.setdefault(entry.contestant, []).append((entry.seed, Run(entry.out)))
    if not runs:
        entry, why = failed[0]
        raise InputError(f"every method failed; {_name(entry)}: {why}", remedy="mend it and give the command again")
    results = table(runs)
    left_out = [{"label": entry.contestant.label, "seed": entry.seed, "reason": why} for entry, why in failed]
    place = Run(folder)
    place.write_text("comparison.csv", as_csv(results))
    place.write_text("runs.csv", runs_as_csv(results))
    groups = next(iter(runs.values()))[0][1].metrics["groups"]
    place.write_json("comparison.json", {**facts, "groups": groups, **results, "left_out": left_out})
    write_comparison_report(folder)


def _name(entry: Entry) -> str:
    return f"{entry.contestant.label}, seed {entry.seed}"
