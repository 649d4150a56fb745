"""Learnable weight scaling (LWS): one factor per class on a classifier that is otherwise left as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from torch import nn

from forktail.backbones.classified import Classified
from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.data.sampling import ClassAware
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_choices, check_positive, check_whole
from forktail.methods._two_stages import plain_features, scaled
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Supervised, freeze

EPOCHS = 5  # of the second stage: ImageNet-LT, after 90


@final
@dataclass(frozen=True)
class LWS(Method):
    """Train by plain cross-entropy, freeze everything, learn the factors f_c of z_c = f_c (W_c h + b_c).

    The factors begin at 1 and see class-aware batches. They take no weight decay, which would pull all logits to 0 (the
    authors' optimiser does decay them). A comparison trains the first stage together with ``ce``'s.

    Args:
        classifier_epochs: Length of the second stage; None is the authors' 5 epochs, or
            the plan's if they are fewer.
        lr_ratio: Learning rate of the second stage over the plan's; None is 1 under SGD, as the authors have it, and 10
            under other optimisers, whose steps would not take a factor far from 1.
        norm: Whether the frozen backbone's batch norm keeps its statistics (``eval``) or they follow the balanced
            batches (``track``), as they did in the authors' code.
    """

    summary = "plain training, then one learned factor per class on the frozen classifier's logits"
    source = "Kang et al. 2020, section 4.1 (LWS)"
    stages = ("training", "classifier")
    compute = 1.06

    classifier_epochs: int | None = None
    lr_ratio: float | None = None
    norm: Literal["eval", "track"] = "eval"

    def __post_init__(self) -> None:
        check_choices(self)
        check_whole(self, "classifier_epochs")
        check_positive(self, "lr_ratio")

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with a scaled classifier."""
        return scaled(Forked.single(open_backbone(spec.backbone), len(spec.classes)))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs of balanced training as they are."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train features and classifier, then the factors."""
        plain, plan = plain_features(problem, engine, self._scaling, self, EPOCHS)
        network = engine.train("classifier", self._scaling(plain), problem.train, plan, ClassAware()).network
        return self.reads(network, problem.spec(self))

    def _scaling(self, plain: Forked) -> Supervised:
        network = scaled(plain)
        freeze(network.backbone, self.norm)
        freeze(plain.classifier(0))
        return Supervised(network, CrossEntropy())
