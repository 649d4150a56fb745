"""RIDE: experts that are trained to differ.

Legend: B images of a batch, C classes, E experts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.experts import Experts
from forktail.backbones.open import open_backbone
from forktail.data.images import Images
from forktail.labels import ClassCounts
from forktail.losses.ldam import LDAM
from forktail.methods._experts import cosine_experts
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import (
    check_fraction,
    check_not_negative,
    check_not_positive,
    check_positive,
    check_whole,
)
from forktail.methods._routing import Routed, Routing, image_flops, judged_on, tell_experts_asked
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.objective import Batch, Objective, freeze, weighted_mean
from forktail.training.plan import Plan


@final
@dataclass(frozen=True)
class RIDE(Method):
    """Experts with LDAM and deferred re-weighting each, and a term that pushes them apart; their mean logits decide.

    The loss of an image is the sum over experts of LDAM + diversity_factor KL(mean of the experts || expert). The
    factor is negative, so the term is unbounded below: what holds it is the scale of the cosines. At 0 each expert
    keeps its own loss (the released code exchanges it for that of the mean). The published experts are narrower than
    the backbone that they are copied from; a pretrained layer cannot be narrowed, so ours keep its width, and
    ``compute`` says what that costs.

    Args:
        num_experts: E.
        shared_units: How many units of the backbone the experts share; None shares all but the last third. The authors'
            ResNets are cut where a stage ends: 5 for ``resnet32``, 7 for ``resnet50``.
        s: Scale of the cosines.
        max_m: LDAM's margin of the rarest class, as a cosine.
        beta: Effective number of the deferred re-weighting.
        reweight_start: Share of the training that is done when re-weighting begins: 0.8, at epoch 160 of 200.
        diversity_factor: At most 0: -0.2 ImageNet-LT and iNaturalist, -0.45 CIFAR.
        reweight_factor: How far the temperature of a class follows its frequency once re-weighting has begun, in
            [0, 1): 0.05 CIFAR, 0.02 ImageNet-LT, 0.015 iNaturalist.
        routing: Train routers for an early exit: an image goes to the next expert only if it seems to need one.
        routing_epochs: Length of that stage; None is 0.05 of the plan's, and at least one.
        pos_weight: What a missed need for help costs against a needless call: 20, or 100 for CIFAR.
        top_choices: How many of the largest mean logits a router sees.
        teacher_experts: Experts of a larger network that is trained first and distilled; 6 as published, 0 for none.
        distill_temperature: Softens both sides of the distillation.
        distill_factor: Weight of the distillation.
    """

    summary = "diverse experts with margins and deferred re-weighting, optionally routed"
    source = "Wang et al. 2021 (RIDE), distribution-aware diversity loss and expert assignment"
    stages = ("teacher", "training", "routing", "experts-asked")
    compute = 1.57

    num_experts: int = 3
    shared_units: int | None = None
    s: float = 30.0
    max_m: float = 0.5
    beta: float = 0.9999
    reweight_start: float = 0.8
    diversity_factor: float = -0.2
    reweight_factor: float = 0.05
    routing: bool = False
    routing_epochs: int | None = None
    pos_weight: float = 20.0
    top_choices: int = 30
    teacher_experts: int = 0
    distill_temperature: float = 1.5
    distill_factor: float = 1.0

    def __post_init__(self) -> None:
        check_whole(self, "num_experts", least=2 if self.routing else 1)
        check_whole(self, "shared_units", "top_choices", least=1)
        check_whole(self, "routing_epochs", "teacher_experts")
        check_positive(self, "s", "pos_weight", "distill_temperature")
        check_not_negative(self, "max_m", "distill_factor")
        check_not_positive(self, "diversity_factor")
        check_fraction(self, "reweight_start")
        check_fraction(self, "beta", "reweight_factor", one=False)

    def network(self, spec: ModelSpec) -> Experts | Routed:
        """Return untrained experts, with routers if the method trains them."""
        generator = torch.Generator().manual_seed(0)
        backbone, num_classes = open_backbone(spec.backbone), len(spec.classes)
        experts = cosine_experts(backbone, self.shared_units, self.num_experts, num_classes, self.s, generator)
        return self._routed(experts, num_classes, generator) if self.routing else experts

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read the mean logits as free of the training prior."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train the teacher if there is one, then the experts, then the routers if they are wanted."""
        plans = iter(self._plans(problem, engine))
        teacher = None
        if self.teacher_experts:
            larger = self._experts(problem, "teacher", self.teacher_experts)
            teacher = engine.train("teacher", self._diverse(problem, larger), problem.train, next(plans)).network
        objective = self._diverse(problem, self._experts(problem, "experts", self.num_experts), teacher)
        experts = engine.train("training", objective, problem.train, next(plans)).network
        if not self.routing:
            return self.reads(experts, problem.spec(self))
        unmixed = dataclasses.replace(next(plans), mix=Mix())  # whether an expert is right takes one class per image
        routed = engine.train("routing", self._routers(problem, experts), problem.train, unmixed).network
        tell_experts_asked(problem, engine, routed)
        return self.reads(routed, problem.spec(self))

    def _plans(self, problem: Problem, engine: Engine) -> list[Plan]:
        """Plan the stages that are wanted, in their order."""
        epochs = engine.plan.epochs
        asked = max(1, round(0.05 * epochs)) if self.routing_epochs is None else self.routing_epochs

        def experts() -> Experts:
            return self._experts(problem, "experts", self.num_experts)

        def teacher() -> Experts:
            return self._experts(problem, "teacher", self.teacher_experts)

        def taught() -> Diverse:
            return self._diverse(problem, experts(), teacher() if self.teacher_experts else None)

        def routers() -> Routing:
            return self._routers(problem, experts())

        stages: list[tuple[Callable[[], Objective], Images, int]] = [(taught, problem.train, epochs)]
        if self.teacher_experts:
            stages.insert(0, (lambda: self._diverse(problem, teacher()), problem.train, epochs))
        if not self.routing:
            return engine.plans(stages)
        analysis = len(judged_on(problem)) * image_flops(problem, routers().network)
        return engine.plans([*stages, (routers, problem.train, asked)], reserve=analysis)

    def _experts(self, problem: Problem, purpose: str, num_experts: int) -> Experts:
        num_classes, generator = problem.counts.num_classes, problem.generator(purpose)
        return cosine_experts(problem.backbone(), self.shared_units, num_experts, num_classes, self.s, generator)

    def _diverse(self, problem: Problem, experts: Experts, teacher: Experts | None = None) -> Diverse:
        margin = {"max_m": self.s * self.max_m, "s": 1.0}  # on logits that are scaled cosines already
        return Diverse(
            experts,
            early=LDAM(problem.counts, **margin),
            late=LDAM(problem.counts, **margin, beta=self.beta),
            temperatures=class_temperatures(problem.counts, self.reweight_factor),
            start=self.reweight_start,
            diversity_factor=self.diversity_factor,
            distillation=None
            if teacher is None
            else Distillation(teacher, self.distill_temperature, self.distill_factor),
        )

    def _routers(self, problem: Problem, experts: Experts) -> Routing:
        routed = self._routed(experts, problem.counts.num_classes, problem.generator("routers"))
        return Routing(routed, self.pos_weight)

    def _routed(self, experts: Experts, num_classes: int, generator: torch.Generator) -> Routed:
        return Routed(experts, min(self.top_choices, num_classes), generator)


@final
class Diverse(Objective):
    """The experts' own losses, the term that pushes them apart, and the distillation of a teacher if there is one.

    Args:
        network: E experts.
        early: The loss of one expert at first.
        late: The same, re-weighted.
        temperatures: (C,) of the diversity while ``late`` is used; 1 before.
        start: Share of the stage that is done when ``late`` takes over, in [0, 1].
        diversity_factor: At most 0.
        distillation: Of the mean logits.
    """

    temperatures: Tensor

    def __init__(
        self,
        network: Experts,
        early: LDAM,
        late: LDAM,
        temperatures: Tensor,
        *,
        start: float,
        diversity_factor: float,
        distillation: Distillation | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.early = early
        self.late = late
        self.register_buffer("temperatures", temperatures)
        self.start = start
        self.diversity_factor = diversity_factor
        self.distillation = distillation

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""
        logits = self.network.expert_logits(batch.inputs)
        deferred = batch.progress >= self.start
        loss = self.late if deferred else self.early
        temperatures = self.temperatures if deferred else torch.ones_like(self.temperatures)
        losses = torch.stack([weighted_mean(loss, expert, batch.targets) for expert in logits]).sum(0)
        losses = losses + self.diversity_factor * diversity(logits, temperatures)
        return losses if self.distillation is None else losses + self.distillation(logits.mean(0), batch.inputs)

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        return f"start={self.start}, diversity_factor={self.diversity_factor}"


@final
class Distillation(nn.Module):
    """Follow the mean logits of a larger network of the same kind, frozen.

    The released code adds it once per expert, and then the whole loss once per expert too; without that common factor
    it is this.

    Args:
        teacher: Trained; taken as it is, and frozen.
        temperature: Softens both sides.
        factor: Weight of the term.
    """

    def __init__(self, teacher: Experts, temperature: float, factor: float) -> None:
        super().__init__()
        self.teacher = teacher
        freeze(teacher)
        self.temperature = temperature
        self.factor = factor

    def forward(self, logits: Tensor, inputs: Tensor) -> Tensor:
        """Return the (B,) terms for the student's (B, C) mean logits."""
        with torch.no_grad():
            wanted = self.teacher(inputs)
        return self.factor * softened_divergence(wanted, logits, torch.full_like(logits[0], self.temperature))

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        return f"temperature={self.temperature}, factor={self.factor}"


def class_temperatures(counts: ClassCounts, reweight_factor: float) -> Tensor:
    r"""Soften frequent classes more: $T_c \propto 1 + r (C \pi_c - 1)$, scaled to a largest one of 1.

    Args:
        counts: Training images of each class.
        reweight_factor: r, in [0, 1); 0 gives ones.

    Returns:
        (C,) temperatures in (0, 1].

    Example:
        >>> import numpy as np
        >>> class_temperatures(ClassCounts(np.array([9, 1])), reweight_factor=0.5)
        tensor([1.0000, 0.4286])
    """
    softness = 1 + reweight_factor * (counts.num_classes * counts.prior - 1)
    return torch.from_numpy(softness / softness.max()).float()


def diversity(expert_logits: Tensor, temperatures: Tensor) -> Tensor:
    r"""Measure how far the experts are from their mean: $\sum_k \bar T^2 KL(softmax(\bar v / T) \| softmax(v_k / T))$.

    The mean of the logits stands for what the others say and gets no gradient.

    Args:
        expert_logits: (E, B, C) logits v.
        temperatures: (C,) temperatures T; each class is divided by its own.

    Returns:
        (B,) divergences in nats, 0 for identical experts.

    Example:
        >>> diversity(torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]]), torch.ones(2))
        tensor([0.2402])
    """
    mean = expert_logits.mean(0).detach()
    return torch.stack([softened_divergence(mean, logits, temperatures) for logits in expert_logits]).sum(0)


def softened_divergence(wanted: Tensor, logits: Tensor, temperatures: Tensor) -> Tensor:
    r"""Compute $\bar T^2 KL(softmax(wanted / T) \| softmax(z / T))$, where $\bar T$ is the mean temperature.

    Args:
        wanted: (B, C) logits to compare with.
        logits: (B, C) logits z.
        temperatures: (C,) temperatures T.

    Returns:
        (B,) divergences in nats.

    Example:
        >>> softened_divergence(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]]), torch.full((2,), 2.0))
        tensor([0.4438])
    """
    there = F.log_softmax(wanted / temperatures, dim=1)
    here = F.log_softmax(logits / temperatures, dim=1)
    return temperatures.mean() ** 2 * (there.exp() * (there - here)).sum(1)
