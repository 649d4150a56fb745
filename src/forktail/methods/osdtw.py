"""OSDTW: optimal shared depth and task weights, in three stages."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, final

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
from forktail.losses.balanced_bce import BalancedBCE
from forktail.methods._method import Method, Problem, one_task
from forktail.predictor import ModelSpec, Predictor
from forktail.theory import CriterionTable, Selection, criterion_table, movement_damping, select
from forktail.training.cost import training_flops
from forktail.training.engine import Arrays, Engine
from forktail.training.objective import Batch, Objective, freeze
from forktail.training.stage import state_digest
from forktail.training.stream import evaluation_batches

TASKS = ("head", "tail")
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
        evaluation_prior: Class prior under which the criterion measures risk: ``train`` or ``uniform``.
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
        self._check(problem, engine)
        specialists = [self._stage1(problem, engine, task) for task in range(len(TASKS))]
        table = self._criterion(problem, engine, specialists)
        choice = self._choose(table, engine)
        forked = self._assemble(problem, engine, specialists, choice)
        refined = self._refine(problem, engine, forked)
        return self.reads(refined, problem.spec(self, depth=choice.depth))

    def _check(self, problem: Problem, engine: Engine) -> None:
        if problem.split.num_tasks != len(TASKS):
            raise InputError(
                f"split has {problem.split.num_tasks} tasks", expected="two for osdtw", remedy="use split.parts = 2"
            )
        if engine.plan.flops is not None:
            raise InputError("plan.flops with osdtw", expected="plan.epochs, because osdtw has several stages")
        units = problem.backbone().depth
        if self.depth is not None and self.depth > units:
            raise InputError(f"method.depth = {self.depth}", expected=f"0 to {units}, the units of the backbone")

    def _stage1(self, problem: Problem, engine: Engine, task: int) -> Forked:
        """Train one task alone, a full network from the initial weights (eq. 14)."""
        classes = problem.split.tasks[task]
        objective = WeightedTasks(
            problem.network(one_task(len(classes))), [self._loss(problem, task)], [classes], [1.0]
        )
        plan = engine.plan.for_epochs(_either(self.stage1_epochs, engine.plan.epochs))
        return engine.train(f"stage1-{TASKS[task]}", objective, self._stage1_images(problem, task), plan).network

    def _stage1_images(self, problem: Problem, task: int) -> Images:
        if self.stage1_images == "all":
            return problem.train
        return problem.train.subset(np.isin(problem.train.labels, problem.split.tasks[task]))

    def _loss(self, problem: Problem, task: int) -> BalancedBCE:
        """Summed BCE of a task's classes, adjusted by their share of all images (eqs. 8, 9)."""
        return BalancedBCE(problem.counts, tau=self.tau, classes=problem.split.tasks[task])

    def _criterion(self, problem: Problem, engine: Engine, specialists: Sequence[Forked]) -> CriterionTable:
        """Predict the risk of every depth and weight (eqs. 16 to 18) and write it down."""
        units, decoders, gradient_norms = self._moments(problem, engine, specialists)
        n = [problem.counts.total] * len(TASKS)
        damping = movement_damping(units, decoders, n) if self.damping == "movement" else float(self.damping)
        own = [int(problem.counts.per_class[task].sum()) for task in problem.split.tasks]
        table = criterion_table(
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
        starts = [problem.network(one_task(len(classes))) for classes in problem.split.tasks]
        losses = self._losses(problem)
        images = problem.train.with_transform(problem.preprocess)
        shape, num_classes = tuple(images[0].shape), problem.counts.num_classes
        objectives = [
            WeightedTasks(network, [loss], [classes], [1.0])
            for network, loss, classes in zip(specialists, losses, problem.split.tasks, strict=True)
        ]
        cost = len(images) * sum(training_flops(objective, shape, num_classes) for objective in objectives)

        def measure() -> Arrays:
            device = engine.runtime.device
            batches = self._fisher_batches(problem, images, engine)
            here = [start.to(device) for start in starts]
            return packed(moments(specialists, [loss.to(device) for loss in losses], problem.split, here, batches))

        digests = [state_digest(module) for module in [*specialists, *starts, *losses]]
        classes = [task.tolist() for task in problem.split.tasks]
        inputs = [self.evaluation_prior, classes, *digests, images.fingerprint]
        return unpacked(engine.keep("moments", inputs, measure, flops=cost))

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

    def _assemble(self, problem: Problem, engine: Engine, specialists: Sequence[Forked], choice: Selection) -> Forked:
        """Train the shared encoder (Stage 2) and fork it (Stage 3, eq. 15); at depth 0 Stage 1 is all there is."""
        if choice.depth == 0:
            return fork(problem.network(problem.split), specialists, 0)
        network = problem.network(problem.split, None if self.stage2 == "whole" else choice.depth)
        objective = WeightedTasks(network, self._losses(problem), problem.split.tasks, choice.weights)
        plan = engine.plan.for_epochs(_either(self.stage2_epochs, engine.plan.epochs))
        shared = engine.train("stage2", objective, problem.train, plan).network
        return fork(shared, specialists if self.decoders == "stage1" else None, choice.depth)

    def _refine(self, problem: Problem, engine: Engine, forked: Forked) -> Forked:
        """Fine-tune the decoders under the frozen encoder; their losses share no parameter, so each weighs one."""
        freeze(forked.shared)
        objective = WeightedTasks(forked, self._losses(problem), problem.split.tasks, [1.0] * len(TASKS))
        plan = engine.plan.for_epochs(_either(self.refinement_epochs, round(0.3 * engine.plan.epochs)))
        return engine.train("refinement", objective, problem.train, plan).network

    def _losses(self, problem: Problem) -> list[BalancedBCE]:
        return [self._loss(problem, task) for task in range(len(TASKS))]


@final
class WeightedTasks(Objective):
    """sum_t w_t L_t of a network's tasks, each the summed BCE of its own classes (eqs. 8 and 14).

    Args:
        network: A network with one output group per task.
        losses: One loss per task.
        tasks: The classes of each task, as columns of the one-hot targets of all classes.
        weights: One weight per task.
    """

    weights: Tensor

    def __init__(
        self,
        network: Forked,
        losses: Sequence[BalancedBCE],
        tasks: Sequence[npt.NDArray[np.int64]],
        weights: Sequence[float],
    ) -> None:
        super().__init__()
        self.network = network
        self.losses = nn.ModuleList(losses)
        self.register_buffer("weights", torch.tensor(weights))
        for number, classes in enumerate(tasks):
            self.register_buffer(f"classes{number}", torch.tensor(classes.tolist()))

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) weighted losses of a batch in nats."""
        scores = self.network.task_scores(batch.inputs)
        losses = [
            loss(z, self._targets(batch.targets, task))
            for task, (z, loss) in enumerate(zip(scores, self.losses, strict=True))
        ]
        return torch.stack(losses, dim=1) @ self.weights

    def _targets(self, targets: Tensor, task: int) -> Tensor:
        """Return the (B, C_t) targets of a task; an image of another task is a row of zeros."""
        classes: Tensor = self.get_buffer(f"classes{task}")
        if targets.is_floating_point():
            return targets[:, classes]
        return (targets.unsqueeze(1) == classes).to(self.weights.dtype)


def _either(epochs: int | None, otherwise: int) -> int:
    return otherwise if epochs is None else epochs
