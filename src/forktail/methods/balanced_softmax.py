"""Balanced softmax: the class counts enter the softmax, so that the outputs are free of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.losses.balanced_softmax import BalancedSoftmax as BalancedSoftmaxLoss
from forktail.methods._method import Method, Problem
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Supervised


@final
@dataclass(frozen=True)
class BalancedSoftmax(Method):
    """Cross-entropy on z + log n; predicts with z. The same in all but its name as ``logit_adjustment`` at tau = 1."""

    summary = "cross-entropy of a softmax that counts the training images; logit adjustment at tau = 1"
    source = "Ren et al. 2020, eqs. 3 and 4, without the meta-sampler"
    stages = ("training",)
    compute = 1.0

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs that are free of the training prior."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images."""
        network = problem.network()
        loss = BalancedSoftmaxLoss(problem.counts)
        trained = engine.train("training", Supervised(network, loss), problem.train).network
        return self.reads(trained, problem.spec(self))
