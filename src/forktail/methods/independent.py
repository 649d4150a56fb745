"""Two networks that share nothing, one for the head and one for the tail."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, final

from torch import nn

from forktail.backbones.forked import Forked, fork
from forktail.backbones.open import open_backbone
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_choices, check_not_negative
from forktail.methods._tasks import TASKS, check_two_tasks, specialist
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine


@final
@dataclass(frozen=True)
class Independent(Method):
    """OSDTW's Stage 1 alone, its two networks side by side: what sharing has to beat, at twice the inference compute.

    Equal to ``osdtw`` at depth 0 without refinement and with a Stage 1 as long as the plan, which is trained once for
    both where they run in one comparison at equal epochs.

    Args:
        rule: How outputs become predictions: ``margin`` is the paper's, ``posterior`` is exact.
        tau: Strength of the logit adjustment in training.
    """

    summary = "two networks without sharing, one for the head and one for the tail"
    source = "OSDTW, eq. 14 and depth 0 of eq. 15"
    stages = ("stage1-head", "stage1-tail")
    compute = 2.0

    rule: Literal["margin", "posterior"] = "posterior"
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        check_not_negative(self, "tau")

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network that forks before its first layer."""
        return Forked(open_backbone(spec.backbone), spec.split, depth=0)

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read Bernoulli logits by the rule, under a uniform prior."""
        return Predictor(network, spec, rule=self.rule, home="uniform", tau=self.tau)

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train each task alone and put the networks side by side."""
        check_two_tasks(problem, self.name)
        tasks = range(len(TASKS))
        plans = engine.plans(
            [(partial(specialist, problem, task, self.tau), problem.train, engine.plan.epochs) for task in tasks]
        )
        networks = [
            engine.train(
                f"stage1-{TASKS[task]}", specialist(problem, task, self.tau), problem.train, plans[task]
            ).network
            for task in tasks
        ]
        forked = fork(problem.network(problem.split), networks, depth=0)
        return self.reads(forked, problem.spec(self))
