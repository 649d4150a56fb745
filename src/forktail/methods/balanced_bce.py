"""Balanced binary cross-entropy: LiVT's objective on one network of all classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.losses.balanced_bce import BalancedBCE as BalancedBCELoss
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_choices, check_not_negative
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Supervised


@final
@dataclass(frozen=True)
class BalancedBCE(Method):
    """Summed binary cross-entropy on z + tau (log pi - log(1 - pi)), one network for all classes.

    It is OSDTW's loss without OSDTW's tasks. LiVT's masked pretraining is a step of its own, `forktail pretrain`.

    Args:
        tau: Strength of the adjustment. LiVT's released code ignores its own setting of it and trains at 1.
        rule: How outputs become predictions: ``margin`` is LiVT's own, argmax z, which still favours the head;
            ``posterior`` is exact (docs/theory, section 11).
    """

    summary = "LiVT's objective: binary cross-entropy on logits that are adjusted by the prior odds"
    source = "Xu et al. 2023 (LiVT), Theorem 2"
    stages = ("training",)
    compute = 1.0

    tau: float = 1.0
    rule: Literal["margin", "posterior"] = "margin"

    def __post_init__(self) -> None:
        check_choices(self)
        check_not_negative(self, "tau")

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read Bernoulli logits by the rule, under a uniform prior."""
        return Predictor(network, spec, rule=self.rule, home="uniform", tau=self.tau)

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images."""
        network = problem.network()
        loss = BalancedBCELoss(problem.counts, tau=self.tau)
        trained = engine.train("training", Supervised(network, loss), problem.train).network
        return self.reads(trained, problem.spec(self))
