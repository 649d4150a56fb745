"""Plain binary cross-entropy: every class against the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_choices
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Supervised


@final
@dataclass(frozen=True)
class BCE(Method):
    """Plain binary cross-entropy; predicts argmax z under the training prior, as its users do.

    The classifier starts with a bias of -log(C - 1), so that every class begins with probability 1 / C: from 0 a short
    training spends its steps on saying no.

    Under another prior it predicts by sigmoid(z_c) / pi_c, which is exact for outputs that are the training
    probabilities of C Bernoulli variables.

    Args:
        scale: ``sum`` over classes (LiVT) or ``mean`` over them (DeiT III), C times less, which a learning rate has to
            make up for.
    """

    summary = "plain binary cross-entropy, every class against the rest"
    source = "the field's common baseline; scales of Xu et al. 2023 (LiVT) and Touvron et al. 2022 (DeiT III)"
    stages = ("training",)
    compute = 1.0

    scale: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        check_choices(self)

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read Bernoulli logits that carry the training prior, and predict under it."""
        return Predictor(network, spec, rule="posterior", home="train", tau=0.0)

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images."""
        network = problem.network()
        nn.init.constant_(network.classifier(0).bias, -math.log(problem.counts.num_classes - 1))
        trained = engine.train("training", Supervised(network, BinaryCrossEntropy(self.scale)), problem.train).network
        return self.reads(trained, problem.spec(self))
