"""Class-balanced loss: each image weighs what the effective number of its class's images says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.losses.class_balanced import ClassBalanced as ClassBalancedLoss
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_choices, check_fraction, check_not_negative
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Supervised


@final
@dataclass(frozen=True)
class ClassBalanced(Method):
    """Softmax, sigmoid or focal loss times (1 - beta) / (1 - beta^n_y), of mean 1 over classes; predicts argmax z.

    A batch's losses are divided by its images, as in the authors' code, not by its weights. Sigmoid and focal
    classifiers start with a bias of -log(C - 1), so that every class begins with probability 1 / C.

    Args:
        kind: Which loss is weighted.
        beta: Of the effective number, in [0, 1); 0 weighs all alike. Published: .9, .99, .999 and .9999 by data set.
        gamma: Of the focal kind, >= 0. Published: .5, 1 and 2.
    """

    summary = "cross-entropy, binary cross-entropy or focal loss weighted by the effective number of images"
    source = "Cui et al. 2019, section 4"
    stages = ("training",)
    compute = 1.0

    kind: Literal["softmax", "sigmoid", "focal"] = "softmax"
    beta: float = 0.9999
    gamma: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        check_fraction(self, "beta", one=False)
        check_not_negative(self, "gamma")

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs that the weights have freed of the training prior, as far as they do.

        Those of the sigmoid kinds are no Bernoulli logits of the training data either: the weights tilt them.
        """
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images."""
        network = problem.network()
        if self.kind != "softmax":
            nn.init.constant_(network.classifier(0).bias, -math.log(problem.counts.num_classes - 1))
        loss = ClassBalancedLoss(problem.counts, beta=self.beta, kind=self.kind, gamma=self.gamma)
        trained = engine.train("training", Supervised(network, loss), problem.train).network
        return self.reads(trained, problem.spec(self))
