"""Logit adjustment: the training prior enters the loss, so that the outputs are free of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.losses.logit_adjusted import LogitAdjusted
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_not_negative
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Supervised


@final
@dataclass(frozen=True)
class LogitAdjustment(Method):
    """Cross-entropy on z + tau log pi; predicts with z.

    Args:
        tau: Strength of the adjustment; 1 is consistent for balanced accuracy.
    """

    summary = "cross-entropy on prior-adjusted logits"
    source = "Menon et al. 2021, eq. 10"
    stages = ("training",)
    compute = 1.0

    tau: float = 1.0

    def __post_init__(self) -> None:
        check_not_negative(self, "tau")

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs that are free of the training prior."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images."""
        network = problem.network()
        loss = LogitAdjusted(problem.counts, tau=self.tau)
        trained = engine.train("training", Supervised(network, loss), problem.train).network
        return self.reads(trained, problem.spec(self))
