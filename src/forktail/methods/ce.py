"""Plain cross-entropy: what a long tail does to an ordinary classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._method import Method, Problem
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Supervised


@final
@dataclass(frozen=True)
class CE(Method):
    """Plain cross-entropy; predicts under the training prior, as its users do."""

    summary = "plain cross-entropy, the baseline that ignores the tail"
    source = "docs/theory; the field's common baseline"
    stages = ("training",)
    compute = 1.0

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs that carry the training prior, and predict under it."""
        return Predictor(network, spec, rule="softmax", home="train")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images."""
        network = problem.network()
        trained = engine.train("training", Supervised(network, CrossEntropy()), problem.train).network
        return self.reads(trained, problem.spec(self))
