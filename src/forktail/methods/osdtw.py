"""OSDTW: optimal shared depth and task weights, in three stages."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
from torch import nn

from forktail.backbones.forked import Forked, fork
from forktail.backbones.open import open_backbone
from forktail.data.images import Images
from forktail.errors import InputError
from forktail.fisher.moments import Moments
from forktail.methods._coupled import CoupledCriterion
from forktail.methods._method import Method, Problem, check_tau
from forktail.methods._moments import Measurement
from forktail.methods._tasks import TASKS, WeightedTasks, check_two_tasks, specialist, task_losses
from forktail.predictor import ModelSpec, Predictor
from forktail.theory import CriterionTable, Selection, Uncertainty, binned_table, jackknife, movement_damping, select
from forktail.training.engine import Engine
from forktail.training.objective import Objective, freeze
from forktail.training.plan import Plan

COUPLED = ("refined", "raw")  # readings in which encoder and decoders are coupled


@final
@dataclass(frozen=True)
class OSDTW(Method):
    """Train each task alone, predict the best shared depth and weight, share to there, fork, refine.

    The defaults are ours until measurement decides them; `recipes/methods/osdtw-paper.toml` holds the paper's options.
    Stage 1 stops long before its optimum, which ``general`` and ``movement`` suppose: they then choose by noise, or
    by how far Stage 1 went. ``sandwich`` always selects weight 1/2 where it is not damped (docs/theory, section 6).

    Args:
        reading: Which form of the criterion selects (docs/theory).
        fisher: What the curvature is estimated with: squared gradients at the true labels, at labels drawn from the
            model, or the exact Gauss-Newton diagonal, which takes a backward pass per class (docs/fisher). Scores are
            always those of the true labels.
        debiased: Subtract the sampling variance from the squared distance between the two solutions.
        damping: Precision of the prior round the initial weights: a number, or ``movement`` to estimate it from how
            far Stage 1 moved.
        evaluation_prior: Class prior under which the criterion measures risk: ``train``, or ``uniform``, which is only
            an approximation (docs/theory, section 2).
        depth: Pin the shared depth.
        weight: Pin the head's weight.
        weights: How many weights, evenly spaced inside (0, 1), are compared.
        groups: Groups of images for the standard errors of the criterion and of the choice: 0, or at least 2
            (docs/theory, section 14). ``refined`` and ``raw`` have none.
        coupled_units: Of ``refined`` and ``raw``: how many of the last units are coupled with the decoders; None is
            all of them.
        coupled_images: Of ``refined`` and ``raw``: how many images are used; None is what a minute or two allow, 1,024
            at most.
        rule: How outputs become predictions: ``margin`` is the paper's, ``posterior`` is exact.
        decoders: What a decoder starts from: its Stage-1 network (the paper's) or a copy of Stage 2's own layers.
        stage2: Stage 2 shares the ``whole`` trunk and is cut (the paper's), or only what is to be ``shared``.
        stage1_images: Stage 1 sees ``all`` images, those of the other task as negatives, or its ``own`` alone.
        stage1_epochs: Length of Stage 1; None is the plan's.
        stage2_epochs: Length of Stage 2; None is the plan's.
        refinement_epochs: Length of the refinement; None is 0.3 of the plan's.
        tau: Strength of the logit adjustment in training.
    """

    summary = "head and tail task, shared to the depth and with the weight that a Fisher criterion predicts to be best"
    source = "OSDTW, Algorithm 1, eqs. 14 to 18"
    stages = ("stage1-head", "stage1-tail", "moments", "stage2", "refinement")
    compute = 3.3

    reading: Literal["sandwich", "naive", "average", "unequal", "general", "refined", "raw"] = "sandwich"
    fisher: Literal["empirical", "monte_carlo", "ggn"] = "empirical"
    debiased: bool = True
    damping: float | Literal["movement"] = 0.0
    evaluation_prior: Literal["train", "uniform"] = "train"
    depth: int | None = None
    weight: float | None = None
    weights: int = 19
    groups: int = 8
    coupled_units: int | None = None
    coupled_images: int | None = None
    rule: Literal["margin", "posterior"] = "posterior"
    decoders: Literal["stage1", "stage2"] = "stage2"
    stage2: Literal["whole", "shared"] = "whole"
    stage1_images: Literal["all", "own"] = "all"
    stage1_epochs: int | None = None
    stage2_epochs: int | None = None
    refinement_epochs: int | None = None
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_tau(self.tau)
        if self.weight is not None and not 0 < self.weight < 1:
            raise InputError(f"method.weight = {self.weight}", expected="a number inside (0, 1), the head's weight")
        if self.weights < 1:
            raise InputError(f"method.weights = {self.weights}", expected="a whole number >= 1")
        if self.groups < 0 or self.groups == 1:
            raise InputError(f"method.groups = {self.groups}", expected="0 for none, or a whole number >= 2")
        if self.damping != "movement" and not 0 <= self.damping < np.inf:
            raise InputError(f"method.damping = {self.damping}", expected='a number >= 0, or "movement"')
        for name in ("depth", "stage1_epochs", "stage2_epochs", "refinement_epochs"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise InputError(f"method.{name} = {value}", expected="a whole number >= 0")
        # The criterion would say so too, but only after Stage 1 is trained.
        if self.reading == "naive" and self.damping != 0:
            raise InputError(
                f'method.damping = {self.damping} with reading "naive", which has no damped form',
                remedy="set method.damping = 0",
            )
        if self.reading in COUPLED and (self.damping == 0 or self.fisher != "empirical"):
            raise InputError(
                f'reading "{self.reading}" with method.damping = {self.damping} and method.fisher = "{self.fisher}"',
                expected='damping above 0, or "movement", and the empirical Fisher',
                remedy="set method.damping=movement and method.fisher=empirical",
            )
        for name in ("coupled_units", "coupled_images"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"method.{name} = {value}", expected="a whole number >= 1")
        if self.evaluation_prior == "uniform" and self.reading != "general":
            raise InputError(
                f'method.evaluation_prior = "uniform" with reading "{self.reading}", which measures the training risk',
                remedy='use reading "general"',
            )

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network that is forked where the spec says."""
        return Forked(open_backbone(spec.backbone), spec.split, spec.structure["depth"])

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read Bernoulli logits by the rule, under a uniform prior."""
        return Predictor(network, spec, rule=self.rule, home="uniform", tau=self.tau)

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Run Stage 1, the selection, Stage 2, the fork and the refinement."""
        self._check(problem)
        specialists = self._stage1(problem, engine)
        table, uncertainty = self._criterion(problem, engine, specialists)
        choice = self._choose(table, uncertainty, engine)
        plans = engine.plans(self._after_stage1(problem, engine, choice.depth, choice.weights))
        forked = self._assemble(problem, engine, specialists, choice, plans[0])
        refined = self._refine(problem, engine, forked, plans[-1])
        return self.reads(refined, problem.spec(self, depth=choice.depth))

    def _check(self, problem: Problem) -> None:
        check_two_tasks(problem, self.name)
        units = problem.backbone().depth
        if self.depth is not None and self.depth > units:
            raise InputError(f"method.depth = {self.depth}", expected=f"0 to {units}, the units of the backbone")

    def _stage1(self, problem: Problem, engine: Engine) -> list[Forked]:
        """Train each task alone (eq. 14)."""
        images = [self._stage1_images(problem, task) for task in range(len(TASKS))]
        epochs = _either(self.stage1_epochs, engine.plan.epochs)
        here = [(partial(specialist, problem, task, self.tau), images[task], epochs) for task in range(len(TASKS))]
        # What follows costs most at depth 1: all that is not needed then falls to Stage 2 and the refinement.
        later = self._after_stage1(problem, engine, 1 if self.depth is None else self.depth, (0.5, 0.5))
        plans = engine.plans([*here, *later], reserve=self._analysis_flops(problem, engine))
        return [
            engine.train(f"stage1-{name}", make(), seen, plan).network
            for name, (make, seen, _), plan in zip(TASKS, here, plans[: len(TASKS)], strict=True)
        ]

    def _stage1_images(self, problem: Problem, task: int) -> Images:
        if self.stage1_images == "all":
            return problem.train
        return problem.train.subset(np.isin(problem.train.labels, problem.split.tasks[task]))

    def _after_stage1(
        self, problem: Problem, engine: Engine, depth: int, weights: Sequence[float]
    ) -> list[tuple[Callable[[], Objective], Images, int]]:
        """List Stage 2, which depth 0 does not need, and the refinement."""
        stage2 = _either(self.stage2_epochs, engine.plan.epochs)
        refinement = _either(self.refinement_epochs, round(0.3 * engine.plan.epochs))

        def refined() -> Objective:
            return self._refinement(problem, problem.network(problem.split, depth))

        after: list[tuple[Callable[[], Objective], Images, int]] = [(refined, problem.train, refinement)]
        return after if depth == 0 else [(partial(self._joint, problem, depth, weights), problem.train, stage2), *after]

    def _analysis_flops(self, problem: Problem, engine: Engine) -> float:
        flops = self._measurement(problem, engine).flops()
        return flops + self._coupled(problem, engine).most_flops() if self.reading in COUPLED else flops

    def _measurement(self, problem: Problem, engine: Engine) -> Measurement:
        uniform = self.evaluation_prior == "uniform"
        groups = 0 if self.reading in COUPLED else self.groups
        return Measurement(problem, engine, self.tau, self.fisher, uniform, groups)

    def _criterion(
        self, problem: Problem, engine: Engine, specialists: Sequence[Forked]
    ) -> tuple[CriterionTable, Uncertainty | None]:
        """Predict the risk of every depth and weight (eqs. 16 to 18), say how sure that is, and write it down."""
        measured = self._measurement(problem, engine).of(specialists)
        images = None
        if self.reading in COUPLED:
            table, images = self._coupled_table(problem, engine, specialists, measured.whole)
        else:
            table = self._table(problem, measured.whole)
        uncertainty = None
        if measured.groups:
            replicates = [self._table(problem, measured.without(group)) for group in range(len(measured.groups))]
            uncertainty = jackknife(table, replicates, measured.sizes)
        engine.run.write_text("criterion.csv", _as_csv(table if uncertainty is None else uncertainty))
        facts = {
            "reading": table.reading,
            "coupled_images": None if images is None else len(images),  # whose gradients were multiplied
            "fisher": self.fisher,
            "debiased": self.debiased,
            "damping": table.damping,
            "evaluation_prior": self.evaluation_prior,
            "images": problem.counts.total,
            "groups": measured.sizes.astype(int).tolist(),  # images of each, for the standard errors
            "mean_gradient_norms": measured.whole.gradient_norms.tolist(),  # 0 at the optimum that the theory supposes
            "flat_coordinates": table.flat,
            "error_bound": None if table.bound is None else float(np.max(table.bound)),  # of the binned table, nats
            "units": _by_layer(measured.whole),
        }
        engine.run.write_json("criterion.json", facts)
        return table, uncertainty

    def _table(self, problem: Problem, measured: Moments) -> CriterionTable:
        """Compute the criterion; a damping from the data is estimated anew, so that its error counts."""
        units, decoders, _ = measured
        n = [problem.counts.total] * len(TASKS)
        own = [int(problem.counts.per_class[task].sum()) for task in problem.split.tasks]
        return binned_table(
            units,
            decoders,
            weights=self._weights(),
            n=n,
            reading=self.reading,
            debiased=self.debiased,
            damping=self._damping(problem, measured),
            own_group_n=own if self.reading == "unequal" else None,
        )

    def _coupled(self, problem: Problem, engine: Engine) -> CoupledCriterion:
        return CoupledCriterion(
            self._measurement(problem, engine),
            "raw" if self.reading == "raw" else "refined",
            self.stage2,
            self.debiased,
            self.coupled_units,
            self.coupled_images,
        )

    def _coupled_table(
        self, problem: Problem, engine: Engine, specialists: Sequence[Forked], measured: Moments
    ) -> tuple[CriterionTable, npt.NDArray[np.int64]]:
        """Compute the criterion with encoder and decoders coupled, and say of which images."""
        criterion = self._coupled(problem, engine)
        table, images = criterion.of(specialists, measured.units, self._weights(), self._damping(problem, measured))
        if len(images) < problem.counts.total:
            engine.note(
                f"the coupled criterion is of {len(images)} of {problem.counts.total} images; "
                "method.coupled_images takes more, at a cost that grows with their square"
            )
        return table, images

    def _weights(self) -> npt.NDArray[np.float64]:
        """Return the (W, 2) candidate weights."""
        grid = np.arange(1, self.weights + 1) / (self.weights + 1)
        head = grid if self.weight is None else np.union1d(grid, [self.weight])
        return np.stack([head, 1 - head], axis=1)

    def _damping(self, problem: Problem, measured: Moments) -> float:
        if self.damping != "movement":
            return float(self.damping)
        return movement_damping(measured.units, measured.decoders, [problem.counts.total] * len(TASKS))

    def _choose(self, table: CriterionTable, uncertainty: Uncertainty | None, engine: Engine) -> Selection:
        choice = select(
            table,
            depths=None if self.depth is None else [self.depth],
            weights=None if self.weight is None else [self.weight],
            uncertainty=uncertainty,
        )
        engine.run.write_json("selection.json", choice.to_json())
        return choice

    def _joint(self, problem: Problem, depth: int, weights: Sequence[float]) -> WeightedTasks:
        """Return what Stage 2 trains: the tasks' weighted sum on a network that shares its trunk."""
        network = problem.network(problem.split, None if self.stage2 == "whole" else depth)
        return WeightedTasks(network, task_losses(problem, self.tau), problem.split.tasks, weights)

    def _assemble(
        self, problem: Problem, engine: Engine, specialists: Sequence[Forked], choice: Selection, plan: Plan
    ) -> Forked:
        """Train the shared encoder (Stage 2) and fork it (Stage 3, eq. 15); at depth 0 Stage 1 is all there is."""
        if choice.depth == 0:
            return fork(problem.network(problem.split), specialists, 0)
        joint = self._joint(problem, choice.depth, choice.weights)
        shared = engine.train("stage2", joint, problem.train, plan).network
        return fork(shared, specialists if self.decoders == "stage1" else None, choice.depth)

    def _refinement(self, problem: Problem, forked: Forked) -> WeightedTasks:
        """Return what the refinement trains: decoders alone, whose losses share no parameter, so each weighs one."""
        freeze(forked.shared)
        return WeightedTasks(forked, task_losses(problem, self.tau), problem.split.tasks, [1.0] * len(TASKS))

    def _refine(self, problem: Problem, engine: Engine, forked: Forked, plan: Plan) -> Forked:
        """Fine-tune the decoders under the frozen encoder."""
        return engine.train("refinement", self._refinement(problem, forked), problem.train, plan).network


def _either(epochs: int | None, otherwise: int) -> int:
    return otherwise if epochs is None else epochs


def _as_csv(table: CriterionTable | Uncertainty) -> str:
    text, rows = io.StringIO(), list(table.rows())
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _by_layer(measured: Moments) -> list[dict[str, Any]]:
    """Sum up what was measured, layer by layer, for the report; the decoders of both tasks are one row."""
    names = ["stem", *(f"unit {number}" for number in range(1, len(measured.units)))]
    rows = [
        {"layer": layer, "name": name} | unit.summary()
        for layer, (name, unit) in enumerate(zip(names, measured.units, strict=True))
    ]
    each = [decoder.summary() for decoder in measured.decoders]
    sums = {key: [value for summary in each for value in summary[key]] for key in ("curvature", "scores")}
    parameters = sum(decoder.num_coordinates for decoder in measured.decoders) // len(each)  # of one task's
    decoder = {"layer": len(rows), "name": "decoder", "parameters": parameters, **sums}
    return [*rows, decoder | {"distance": None, "mismatch": None}]
