"""OSDTW: optimal shared depth and task weights, in three stages."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt
from torch import nn

from forktail.backbones.batch_norm import recompute_statistics
from forktail.backbones.classifiers import linear_classifier
from forktail.backbones.forked import Forked, fork
from forktail.backbones.open import open_backbone
from forktail.data.images import Images
from forktail.errors import InputError
from forktail.labels import TaskSplit
from forktail.losses.logit_adjusted import LogitAdjusted
from forktail.methods._averaging import Averaged
from forktail.methods._calibration import calibrate, held_out_images
from forktail.methods._criterion import COUPLED, Criterion, Predicting, as_csv
from forktail.methods._distances import separation
from forktail.methods._merging import merge
from forktail.methods._method import Method, Problem
from forktail.methods._near_start import NearStart
from forktail.methods._outputs import outputs_flops
from forktail.methods._places import Place
from forktail.methods._ranges import check_choices, check_fraction, check_not_negative, check_whole
from forktail.methods._softmax_start import make_softmax, offset_images
from forktail.methods._tasks import TASKS, WeightedTasks, check_two_tasks, specialist, task_losses
from forktail.methods._teaching import TaughtTasks
from forktail.predictor import ModelSpec, Predictor, Rule
from forktail.theory import CriterionTable, Selection, Uncertainty, select
from forktail.training.engine import Engine
from forktail.training.objective import Objective, Supervised, freeze
from forktail.training.plan import Plan
from forktail.training.stream import evaluation_batches

# What is trained, on which images, for how many epochs of the plan.
Step: TypeAlias = tuple[Callable[[], Objective], Images, int]
Stage1Step: TypeAlias = tuple[Callable[[], WeightedTasks | NearStart], Images, int]


@final
@dataclass(frozen=True)
class OSDTW(Method):
    """Train each task alone, predict the best shared depth and weight, share to there, fork, refine.

    The default reading is what validation on the development sets of docs/evidence.md chose, its other defaults are
    ours; the paper's options are in `recipes/methods/osdtw-paper.toml`. Stage 1 stops long before its optimum, which
    ``debiased`` and ``movement`` suppose: they then select by noise, or by how far Stage 1 went. ``sandwich`` selects
    weight 1/2 where it is not damped; damped, it gives more weight to the task with less curvature, as a rule the tail
    (docs/theory, sections 7 and 12).

    Args:
        reading: Which form of the criterion selects (docs/theory).
        fisher: What the curvature is estimated with: squared gradients at the true labels, at labels drawn from the
            model, or the exact Gauss-Newton diagonal, which takes a backward pass per class (docs/fisher). Scores are
            always those of the true labels.
        fisher_at: Where gradients are taken: at the ``stage1`` solutions (the paper's), at the ``midpoint`` of their
            shared weights, under each task's own readout and classifier, or where ``stage2`` ends at weight 1/2, which
            is trained for that; distances are always those of Stage 1. ``refined`` and ``raw`` know ``stage1`` alone.
        debiased: Subtract the sampling variance from the squared distance between the two solutions: right where
            Stage 1 reached its optimum, and far too much where it stopped before (docs/theory, section 12).
        damping: Precision of the prior round the initial weights, per image: a number, or ``movement`` to estimate it
            from how far Stage 1 moved. ``naive`` knows none but 0.
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
        stage1_epochs: Length of Stage 1: epochs, as long as the ``plan`` (the paper's), or ``short``, an eighth of it
            but at least one epoch, which serves the statistics alone (docs/evidence.md).
        stage2_epochs: Length of Stage 2; None is the plan's. Where nothing is to be shared, and decoders are Stage 2's,
            each task's Stage-1 network goes on alone, untaught, for as many epochs as that is longer than Stage 1.
        refinement_epochs: Length of the refinement; None is 0.3 of the plan's.
        tau: Strength of the logit adjustment in training.
        stage1_decay: lambda of a penalty lambda/2 |theta - theta_0|^2 on all of a Stage-1 network but its classifier,
            added to the mean loss: over N images a normal prior of precision N lambda round the initial weights. It is
            in units of ``damping``, which is to be set to the same number: the criterion then speaks of this training.
        stage2_start: Stage 2 starts from the ``pretrained`` weights (the paper's), or where Stage 1 ended: at the
            tasks' ``merged`` weights, the mean of theta_t weighted by w_t and the measured curvature, readouts and
            classifiers from Stage 1. With ``stage2_epochs`` 0 the merge takes the place of Stage 2.
        teachers: Share a, from 0 to 1, of the Stage-1 networks' probabilities in the targets of Stage 2 and of the
            refinement of ``tasks``: (1 - a) BCE(label) + a BCE(teacher's probability).
        refinement: What the refinement minimises: the ``tasks``' binary cross-entropies (the paper's), or one
            ``balanced_softmax`` over all classes. That starts from outputs with the offsets that bring a softmax
            nearest to the rule ``posterior`` on training images, and is read as logit-adjusted, whatever ``rule`` says.
        averaging: Share of the steps of Stage 2 and of the refinement, their last ones, whose weights are averaged; 0
            keeps those of the last step. Statistics of batch norm are then measured anew.
        separation: Train Stage 1 once more, by other chance, and say how much farther apart head and tail go than two
            trainings of one task (``separation.json``; docs/when.md says how to read it). Nothing is selected by it,
            but under ``plan.flops`` all other stages pay for it.
        calibration: After all training fit one temperature and one offset per task on the held-out images, by the
            likelihood under a uniform prior; figures on these images then flatter the model.
    """

    summary = "head and tail task, shared to the depth and with the weight that a Fisher criterion predicts to be best"
    source = "OSDTW, Algorithm 1, eqs. 14 to 18"
    stages = (
        *("stage1-head", "stage1-tail", "stage1-head-again", "stage1-tail-again", "moments", "coupled"),
        *("stage2-head", "stage2-tail", "stage2", "offsets", "refinement", "calibration"),
    )
    compute = 1.4

    reading: Literal["sandwich", "naive", "average", "unequal", "general", "refined", "raw"] = "sandwich"
    fisher: Literal["empirical", "monte_carlo", "ggn"] = "empirical"
    fisher_at: Place = "stage1"
    debiased: bool = False
    damping: float | Literal["movement"] = 1e-4
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
    stage1_epochs: int | Literal["plan", "short"] = "short"
    stage2_epochs: int | None = None
    refinement_epochs: int | None = None
    tau: float = 1.0
    stage1_decay: float = 0.0
    stage2_start: Literal["pretrained", "merged"] = "pretrained"
    teachers: float = 0.0
    refinement: Literal["tasks", "balanced_softmax"] = "tasks"
    averaging: float = 0.0
    separation: bool = False
    calibration: bool = False

    def __post_init__(self) -> None:
        check_choices(self)
        check_fraction(self, "teachers", "averaging")
        check_not_negative(self, "tau", "stage1_decay")
        check_whole(self, "depth", "groups", "stage2_epochs", "refinement_epochs")
        if not isinstance(self.stage1_epochs, str):
            check_whole(self, "stage1_epochs")
        check_whole(self, "weights", "coupled_units", "coupled_images", least=1)
        if self.weight is not None and not 0 < self.weight < 1:
            raise InputError(f"method.weight = {self.weight}", expected="a number inside (0, 1), the head's weight")
        if self.groups == 1:
            raise InputError(f"method.groups = {self.groups}", expected="0 for none, or a whole number >= 2")
        if self.damping != "movement" and not 0 <= self.damping < np.inf:
            raise InputError(f"method.damping = {self.damping}", expected='a number >= 0, or "movement"')
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
        if self.reading in COUPLED and self.fisher_at != "stage1":
            raise InputError(
                f'method.fisher_at = "{self.fisher_at}" with reading "{self.reading}"',
                expected="the Stage-1 networks, whose gradients are multiplied",
                remedy="set method.fisher_at=stage1",
            )
        if self.refinement == "balanced_softmax" and self.refinement_epochs == 0:
            raise InputError(
                'method.refinement_epochs = 0 with refinement "balanced_softmax", which would train nothing',
                remedy="set method.refinement=tasks",
            )
        if self.teachers and self.stage1_images == "own":
            raise InputError(
                f'method.teachers = {self.teachers} with stage1_images "own", which shows a teacher its task alone',
                remedy="set method.stage1_images=all",
            )
        if self.separation and self.stage1_images == "own":
            raise InputError(
                'method.separation = true with stage1_images "own", which trains head and tail for different lengths',
                remedy="set method.stage1_images=all",
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
        """Read Bernoulli logits by the rule, or a softmax as it was refined, under a uniform prior."""
        return Predictor(network, spec, rule=self._read_by, home="uniform", tau=self.tau)

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Run Stage 1, the selection, Stage 2, the fork and the refinement."""
        specialists = self.specialists(problem, engine)
        if self.separation:
            self._tell_separation(problem, engine, specialists)
        found = self.criterion(problem, engine, specialists)
        engine.run.write_text("criterion.csv", as_csv(found.table if found.uncertainty is None else found.uncertainty))
        engine.run.write_json("criterion.json", found.facts)
        choice = self._choose(found.table, found.uncertainty, engine)
        _, refined = self.cell(problem, engine, specialists, choice.depth, choice.weights, found.curvature)
        if self.calibration:
            calibrate(problem, engine, refined, self._read_by, self.tau)
        return self.reads(refined, problem.spec(self, depth=choice.depth))

    def specialists(self, problem: Problem, engine: Engine) -> list[Forked]:
        """Train each task alone: Stage 1 (eq. 14).

        Args:
            problem: The problem.
            engine: Trains them, or loads them.

        Returns:
            One network per task.

        Raises:
            InputError: If the data or the plan do not allow an option.
        """
        self._check(problem)
        if self.fisher_at == "stage2" and engine.plan.flops is not None:
            raise InputError(
                'method.fisher_at = "stage2" with plan.flops: a Stage 2 more than is planned for',
                expected="plan.epochs",
                remedy="set method.fisher_at=stage1 or midpoint",
            )
        steps = self._stage1_steps(problem, engine)
        plans = self._plans_from_stage1(steps * (2 if self.separation else 1), problem, engine)
        return [
            engine.train(f"stage1-{name}", make(), seen, plan).network
            for name, (make, seen, _), plan in zip(TASKS, steps, plans[: len(TASKS)], strict=True)
        ]

    def criterion(self, problem: Problem, engine: Engine, specialists: Sequence[Forked]) -> Criterion:
        """Predict the risk of every depth and weight (eqs. 16 to 18), and say how sure that is.

        Args:
            problem: The problem.
            engine: Keeps what is measured.
            specialists: The Stage-1 networks.

        Returns:
            The table, its errors and what they rest on.
        """
        return Predicting(self, problem, engine).of(specialists)

    def cell(
        self,
        problem: Problem,
        engine: Engine,
        specialists: Sequence[Forked],
        depth: int,
        weights: Sequence[float],
        curvature: list[npt.NDArray[np.float64]] | None = None,
    ) -> tuple[Forked, Forked]:
        """Build the network of one shared depth and one pair of weights: Stages 2 and 3, and the refinement.

        Args:
            problem: The problem.
            engine: Trains; a Stage 2 that shares the whole trunk is trained once for all depths.
            specialists: The Stage-1 networks.
            depth: s; at 0 the Stage-1 networks, after Stage 2 has trained each alone where Stage 1 was shorter.
            weights: One per task, their sum 1.
            curvature: Of `criterion`, for a Stage 2 that starts from the merged weights; None loads it.

        Returns:
            The network as it is assembled, and refined; not calibrated.
        """
        after = self._after_stage1(problem, engine, specialists, depth, weights)
        trains = any(epochs for _, _, epochs in after)
        reserve = self._output_flops(problem, depth)
        plans = engine.plans(after, reserve=reserve) if trains else [engine.plan.for_epochs(0) for _ in after]
        if depth == 0:
            raw = self._nothing_shared(problem, engine, specialists, plans[:-1])
        else:
            shared = self._stage2(problem, engine, specialists, depth, weights, curvature, plans[0])
            raw = self._assemble(problem, engine, specialists, shared, depth)
        if self.refinement == "balanced_softmax":
            make_softmax(problem, engine, raw, self.tau)
        # Refinement trains in place, and may find its result stored; what was assembled stays as it is.
        return raw, self._refine(problem, engine, specialists, copy.deepcopy(raw), plans[-1])

    def shared_network(
        self, problem: Problem, engine: Engine, specialists: Sequence[Forked], weights: Sequence[float]
    ) -> Forked:
        """Train the network that shares all layers at one pair of weights: Stage 2, not forked.

        Args:
            problem: The problem.
            engine: Trains it, or loads it.
            specialists: The Stage-1 networks.
            weights: One per task, their sum 1.

        Returns:
            The network of all tasks.
        """
        whole = problem.backbone().depth
        plans = engine.plans(self._after_stage1(problem, engine, specialists, whole, weights))
        return self._stage2(problem, engine, specialists, whole, weights, None, plans[0])

    def midpoint(
        self, problem: Problem, engine: Engine, specialists: Sequence[Forked], weights: Sequence[float]
    ) -> Forked:
        """Average the Stage-1 networks, as far as they are shared.

        Args:
            problem: The problem.
            engine: Where to compute statistics of batch norm.
            specialists: The Stage-1 networks.
            weights: One per task, their sum 1.

        Returns:
            A network of all tasks; what is not shared is each task's own.
        """
        network = problem.network(problem.split)
        merge(network, specialists, None, weights)
        _recompute_statistics(network, problem, engine)
        return network

    @property
    def _read_by(self) -> Rule:
        return "adjusted" if self.refinement == "balanced_softmax" else self.rule

    def _stage1_epochs(self, engine: Engine) -> int:
        planned = engine.plan.epochs
        lengths = {"plan": planned, "short": min(max(round(planned / 8), 1), planned)}
        return lengths[self.stage1_epochs] if isinstance(self.stage1_epochs, str) else self.stage1_epochs

    def _check(self, problem: Problem) -> None:
        check_two_tasks(problem, self.name)
        units = problem.backbone().depth
        if self.depth is not None and self.depth > units:
            raise InputError(f"method.depth = {self.depth}", expected=f"0 to {units}, the units of the backbone")
        if self.calibration and problem.val is None:
            raise InputError(
                "method.calibration = true, and no images are held out to calibrate on",
                expected="a validation part",
                remedy="set method.calibration=false, or give the data a validation part",
            )

    def _tell_separation(self, problem: Problem, engine: Engine, specialists: Sequence[Forked]) -> None:
        """Measure how far apart head and tail went, keep it and tell it."""
        found = separation([specialists, self._second_specialists(problem, engine)])
        engine.run.write_json("separation.json", dataclasses.asdict(found))
        whole = "unknown, for nothing moved" if found.whole is None else f"{found.whole:.2f}"
        engine.note(
            f"separation {whole}: squared distance of head and tail in Stage 1, in units of that of two trainings of "
            "one task; another pair of trainings may well say 0.05 more or less; docs/when.md says how to read it"
        )

    def _second_specialists(self, problem: Problem, engine: Engine) -> list[Forked]:
        """Train Stage 1 once more: from the same weights, with other classifiers, order and augmentation."""
        steps, networks = self._stage1_steps(problem, engine), []
        plans = self._plans_from_stage1(steps, problem, engine)[: len(TASKS)]
        for name, (make, seen, _), plan in zip(TASKS, steps, plans, strict=True):
            stage, objective = f"stage1-{name}-again", make()
            classifier = objective.network.classifier(0)
            sizes = classifier.in_features, classifier.out_features
            classifier.load_state_dict(linear_classifier(*sizes, problem.generator(stage)).state_dict())
            networks.append(engine.train(stage, objective, seen, plan).network)
        return networks

    def _stage1_steps(self, problem: Problem, engine: Engine) -> list[Stage1Step]:
        """List what Stage 1 trains, task by task."""
        images = [self._stage1_images(problem, task) for task in range(len(TASKS))]
        epochs = self._stage1_epochs(engine)
        return [(partial(self._alone, problem, task), seen, epochs) for task, seen in enumerate(images)]

    def _plans_from_stage1(self, steps: Sequence[Step], problem: Problem, engine: Engine) -> list[Plan]:
        """Plan what is still to come of Stage 1, and all that follows it."""
        # What follows costs most at depth 1: all that is not needed then falls to Stage 2 and the refinement.
        depth = 1 if self.depth is None else self.depth
        untrained = [problem.network(TaskSplit.single(len(classes))) for classes in problem.split.tasks]
        later = self._after_stage1(problem, engine, untrained, depth, (0.5, 0.5))
        analyses = Predicting(self, problem, engine).flops() + self._output_flops(problem, depth)
        return engine.plans([*steps, *later], reserve=analyses)

    def _alone(self, problem: Problem, task: int) -> WeightedTasks | NearStart:
        """Return what Stage 1 trains."""
        tasks = specialist(problem, task, self.tau)
        return NearStart(tasks, self.stage1_decay) if self.stage1_decay else tasks

    def _stage1_images(self, problem: Problem, task: int) -> Images:
        if self.stage1_images == "all":
            return problem.train
        return problem.train.subset(np.isin(problem.train.labels, problem.split.tasks[task]))

    def _after_stage1(
        self, problem: Problem, engine: Engine, specialists: Sequence[Forked], depth: int, weights: Sequence[float]
    ) -> list[Step]:
        """List Stage 2 and the refinement, on networks that are not trained."""
        stage2 = _either(self.stage2_epochs, engine.plan.epochs)
        refinement = _either(self.refinement_epochs, round(0.3 * engine.plan.epochs))

        def joint() -> Objective:
            return self._joint(problem, self._trunk(problem, depth), specialists, weights)

        def refined() -> Objective:
            return self._refinement(problem, problem.network(problem.split, depth), specialists)

        after: list[Step] = [(refined, problem.train, refinement)]
        if depth > 0:
            return [(joint, problem.train, stage2), *after]
        seen = [self._stage1_images(problem, task) for task in range(len(TASKS))]
        longer = max(stage2 - self._stage1_epochs(engine), 0) if self.decoders == "stage2" else 0
        alone = [(partial(specialist, problem, task, self.tau), images, longer) for task, images in enumerate(seen)]
        return [*alone, *after] if longer else after

    def _output_flops(self, problem: Problem, depth: int) -> float:
        """Count what is computed of an assembled network for the offsets of a softmax and for the calibration."""
        flops, network = 0.0, problem.network(problem.split, depth)
        if self.refinement == "balanced_softmax":
            flops += outputs_flops(network, offset_images(problem))
        if self.calibration:
            flops += outputs_flops(network, held_out_images(problem))
        return flops

    def _choose(self, table: CriterionTable, uncertainty: Uncertainty | None, engine: Engine) -> Selection:
        choice = select(
            table,
            depths=None if self.depth is None else [self.depth],
            weights=None if self.weight is None else [self.weight],
            uncertainty=uncertainty,
        )
        engine.run.write_json("selection.json", choice.to_json())
        return choice

    def _trunk(self, problem: Problem, depth: int) -> Forked:
        """Return what Stage 2 trains, at the pretrained weights."""
        return problem.network(problem.split, None if self.stage2 == "whole" else depth)

    def _joint(
        self, problem: Problem, network: Forked, specialists: Sequence[Forked], weights: Sequence[float]
    ) -> WeightedTasks | TaughtTasks:
        """Return the tasks' weighted sum, taught by the specialists if they are to teach."""
        tasks = WeightedTasks(network, task_losses(problem, self.tau), problem.split.tasks, weights)
        return TaughtTasks(tasks, specialists, self.teachers) if self.teachers else tasks

    def _nothing_shared(
        self, problem: Problem, engine: Engine, specialists: Sequence[Forked], plans: Sequence[Plan]
    ) -> Forked:
        """Put the tasks' networks side by side, each trained on alone if there is a plan for that."""
        networks = list(specialists)
        for task, plan in enumerate(plans):
            objective = specialist(problem, task, self.tau)
            objective.network.load_state_dict(specialists[task].state_dict())
            seen = self._stage1_images(problem, task)
            self._train(f"stage2-{TASKS[task]}", objective, seen, plan, problem, engine)
            networks[task] = objective.network
        return fork(problem.network(problem.split), networks, 0)

    def _stage2(
        self,
        problem: Problem,
        engine: Engine,
        specialists: Sequence[Forked],
        depth: int,
        weights: Sequence[float],
        curvature: list[npt.NDArray[np.float64]] | None,
        plan: Plan,
    ) -> Forked:
        """Train the shared encoder from where it starts (Stage 2)."""
        start = self._trunk(problem, depth)
        if self.stage2_start == "merged":
            curvature = curvature or Predicting(self, problem, engine).curvature(specialists)
            merge(start, specialists, curvature, weights)
            _recompute_statistics(start, problem, engine)  # a mean of statistics is not that of the mean weights
        objective = self._joint(problem, start, specialists, weights)
        self._train("stage2", objective, problem.train, plan, problem, engine)
        return start

    def _assemble(
        self, problem: Problem, engine: Engine, specialists: Sequence[Forked], shared: Forked, depth: int
    ) -> Forked:
        """Fork the shared network (Stage 3, eq. 15)."""
        if self.decoders == "stage2":
            return fork(shared, None, depth)
        assembled = fork(shared, specialists, depth)
        _recompute_statistics(assembled, problem, engine)  # Stage 1's batch norm never saw this encoder's output
        return assembled

    def _refinement(
        self, problem: Problem, forked: Forked, specialists: Sequence[Forked]
    ) -> WeightedTasks | TaughtTasks | Supervised:
        """Return what the refinement trains: decoders alone; the tasks' share no parameter, so each weighs one."""
        freeze(forked.shared)
        if self.refinement == "balanced_softmax":
            return Supervised(forked, LogitAdjusted(problem.counts, tau=self.tau))
        return self._joint(problem, forked, specialists, [1.0] * len(TASKS))

    def _refine(
        self, problem: Problem, engine: Engine, specialists: Sequence[Forked], forked: Forked, plan: Plan
    ) -> Forked:
        """Fine-tune the decoders under the frozen encoder, in place."""
        objective = self._refinement(problem, forked, specialists)
        self._train("refinement", objective, problem.train, plan, problem, engine)
        return forked

    def _train(
        self,
        stage: str,
        objective: WeightedTasks | TaughtTasks | Supervised,
        images: Images,
        plan: Plan,
        problem: Problem,
        engine: Engine,
    ) -> None:
        """Train an objective's network, in place, to its last weights or to the mean of its last ones."""
        if not self.averaging:
            engine.train(stage, objective, images, plan)
        elif engine.train(stage, Averaged(objective, self.averaging), images, plan).take_mean():
            _recompute_statistics(objective.network, problem, engine, images)


def _either(epochs: int | None, otherwise: int) -> int:
    return otherwise if epochs is None else epochs


def _recompute_statistics(network: nn.Module, problem: Problem, engine: Engine, images: Images | None = None) -> None:
    """Measure the statistics of batch norm, where there is any, on images without augmentation; it is not counted."""
    device, seen = engine.runtime.device, (images or problem.train).with_transform(problem.preprocess)
    batches = (inputs.to(device) for inputs, _, _ in evaluation_batches(seen))
    recompute_statistics(network.to(device), batches)
