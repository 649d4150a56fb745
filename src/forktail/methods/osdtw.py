"""OSDTW: optimal shared depth and task weights, in three stages."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from forktail.backbones.forked import Forked, fork
from forktail.backbones.open import open_backbone
from forktail.data.images import Images
from forktail.errors import InputError
from forktail.fisher.moments import Moments, moments
from forktail.fisher.store import packed, unpacked
from forktail.labels import TaskSplit
from forktail.methods._method import Method, Problem, check_tau
from forktail.methods._tasks import TASKS, WeightedTasks, check_two_tasks, specialist, task_losses
from forktail.predictor import ModelSpec, Predictor
from forktail.theory import CriterionTable, Selection, binned_table, movement_damping, select
from forktail.training.engine import Arrays, Engine
from forktail.training.objective import Objective, freeze
from forktail.training.plan import Plan
from forktail.training.stage import state_digest
from forktail.training.stream import evaluation_batches

FISHER_BATCH = 64


@final
@dataclass(frozen=True)
class OSDTW(Method):
    """Train each task alone, predict the best shared depth and weight, share to there, fork, refine.

    The defaults are ours until measurement decides them; `recipes/methods/osdtw-paper.toml` holds the paper's options.
    Stage 1 stops long before its optimum, which ``general`` and ``movement`` suppose: they then choose by noise, or
    by how far Stage 1 went. ``sandwich`` always selects weight 1/2 where it is not damped (docs/theory, section 6).

    Args:
        reading: Which form of the criterion selects (docs/theory).
        debiased: Subtract the sampling variance from the squared distance between the two solutions.
        damping: Precision of the prior round the initial weights: a number, or ``movement`` to estimate it from how
            far Stage 1 moved.
        evaluation_prior: Class prior under which the criterion measures risk: ``train``, or ``uniform``, which is only
            an approximation (docs/theory, section 2).
        depth: Pin the shared depth.
        weight: Pin the head's weight.
        weights: How many weights, evenly spaced inside (0, 1), are compared.
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

    reading: Literal["sandwich", "naive", "average", "unequal", "general"] = "sandwich"
    debiased: bool = True
    damping: float | Literal["movement"] = 0.0
    evaluation_prior: Literal["train", "uniform"] = "train"
    depth: int | None = None
    weight: float | None = None
    weights: int = 19
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
        table = self._criterion(problem, engine, specialists)
        choice = self._choose(table, engine)
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
        objectives = [specialist(problem, task, self.tau) for task in range(len(TASKS))]
        images = [self._stage1_images(problem, task) for task in range(len(TASKS))]
        epochs = _either(self.stage1_epochs, engine.plan.epochs)
        here = [(partial(specialist, problem, task, self.tau), images[task], epochs) for task in range(len(TASKS))]
        # What follows costs most at depth 1: all that is not needed then falls to Stage 2 and the refinement.
        later = self._after_stage1(problem, engine, 1 if self.depth is None else self.depth, (0.5, 0.5))
        plans = engine.plans([*here, *later], reserve=self._moments_flops(problem, engine, objectives))
        return [
            engine.train(f"stage1-{name}", objective, seen, plan).network
            for name, objective, seen, plan in zip(TASKS, objectives, images, plans[: len(TASKS)], strict=True)
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

    def _criterion(self, problem: Problem, engine: Engine, specialists: Sequence[Forked]) -> CriterionTable:
        """Predict the risk of every depth and weight (eqs. 16 to 18) and write it down."""
        measured = self._moments(problem, engine, specialists)
        units, decoders, gradient_norms = measured
        n = [problem.counts.total] * len(TASKS)
        damping = movement_damping(units, decoders, n) if self.damping == "movement" else float(self.damping)
        own = [int(problem.counts.per_class[task].sum()) for task in problem.split.tasks]
        table = binned_table(
            units,
            decoders,
            weights=np.stack([grid := self._weight_grid(), 1 - grid], axis=1),
            n=n,
            reading=self.reading,
            debiased=self.debiased,
            damping=damping,
            own_group_n=own if self.reading == "unequal" else None,
        )
        text = io.StringIO()
        rows = list(table.rows())
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        engine.run.write_text("criterion.csv", text.getvalue())
        facts = {
            "reading": self.reading,
            "debiased": self.debiased,
            "damping": damping,
            "evaluation_prior": self.evaluation_prior,
            "images": problem.counts.total,
            "mean_gradient_norms": gradient_norms.tolist(),  # 0 at the optimum that the theory supposes
            "flat_coordinates": table.flat,
            "error_bound": None if table.bound is None else float(np.max(table.bound)),  # of the binned table, nats
            "units": _by_layer(measured),
        }
        engine.run.write_json("criterion.json", facts)
        return table

    def _weight_grid(self) -> npt.NDArray[np.float64]:
        grid = np.arange(1, self.weights + 1) / (self.weights + 1)
        return grid if self.weight is None else np.union1d(grid, [self.weight])

    def _moments(self, problem: Problem, engine: Engine, specialists: Sequence[Forked]) -> Moments:
        """Measure curvature, score covariance and distance at the Stage-1 solutions, once (docs/theory, section 2).

        All images count, whatever Stage 1 saw: these are the moments of the losses that Stage 2 weighs.
        """
        starts = [problem.network(TaskSplit.single(len(classes))) for classes in problem.split.tasks]
        losses = task_losses(problem, self.tau)
        images = problem.train.with_transform(problem.preprocess)
        cost = self._moments_flops(problem, engine, [specialist(problem, task, self.tau) for task in range(len(TASKS))])

        def measure() -> Arrays:
            device = engine.runtime.device
            batches = self._fisher_batches(problem, images, engine)
            here = [start.to(device) for start in starts]
            return packed(moments(specialists, [loss.to(device) for loss in losses], problem.split, here, batches))

        digests = [state_digest(module) for module in [*specialists, *starts, *losses]]
        classes = [task.tolist() for task in problem.split.tasks]
        inputs = [self.evaluation_prior, classes, *digests, images.fingerprint]
        memory = _moments_memory(specialists)
        return unpacked(engine.keep("moments", inputs, measure, flops=cost, memory=memory))

    def _moments_flops(self, problem: Problem, engine: Engine, objectives: Sequence[Objective]) -> float:
        """Count a forward and a backward pass of both networks over all images."""
        return sum(engine.flops_per_epoch(objective, problem.train) for objective in objectives)

    def _fisher_batches(
        self, problem: Problem, images: Images, engine: Engine
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Go through all images once: inputs, one-hot targets, weight of each in the evaluated risk."""
        num_classes, device = problem.counts.num_classes, engine.runtime.device
        ratio = torch.from_numpy(1 / (num_classes * problem.counts.prior))  # uniform prior over training prior
        engine.progress.begin("moments", 0, len(images))
        for inputs, labels, index in evaluation_batches(images, FISHER_BATCH):
            weights = ratio[labels].to(device) if self.evaluation_prior == "uniform" else None
            yield inputs.to(device), one_hot(labels, num_classes).to(device, inputs.dtype), weights
            engine.progress.advance(int(index[-1]) + 1)
        engine.progress.end(f"{len(images)} images")

    def _choose(self, table: CriterionTable, engine: Engine) -> Selection:
        choice = select(
            table,
            depths=None if self.depth is None else [self.depth],
            weights=None if self.weight is None else [self.weight],
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


def _moments_memory(specialists: Sequence[Forked]) -> int:
    """Bytes of the networks with their starts, of the sums over images and of the moments, without activations."""
    networks = 2 * sum(parameter.nbytes for network in specialists for parameter in network.parameters())
    coordinates = max(sum(parameter.numel() for parameter in network.parameters()) for network in specialists)
    num_tasks = len(specialists)
    return networks + 2 * 8 * coordinates * (num_tasks**2 + 3 * num_tasks)  # float64: products, and three per task


def _either(epochs: int | None, otherwise: int) -> int:
    return otherwise if epochs is None else epochs


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
