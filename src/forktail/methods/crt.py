"""Classifier re-training (cRT): features from the data as they are, a new classifier from balanced batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, final

import torch
from torch import nn

from forktail.backbones.classified import Classified
from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.data.sampling import ClassAware
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._method import Method, Problem
from forktail.methods._networks import new_classified
from forktail.methods._ranges import check_choices, check_positive, check_whole
from forktail.methods._two_stages import plain_features
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Supervised, freeze

EPOCHS = 10  # of the second stage: ImageNet-LT, after 90; 10 after 30 on Places-LT, 30 after 90 on iNaturalist


@final
@dataclass(frozen=True)
class CRT(Method):
    """Train by plain cross-entropy, freeze the backbone, train a new linear classifier on class-aware batches.

    A comparison trains the first stage together with ``ce``'s.

    Args:
        classifier_epochs: Length of the second stage; None is the authors' 10 epochs, or
            the plan's if they are fewer.
        lr_ratio: Learning rate of the second stage over the plan's; the authors keep it.
        norm: Whether the frozen backbone's batch norm keeps its statistics (``eval``) or they follow the balanced
            batches (``track``), as they did in the authors' code.
    """

    summary = "plain training, then a new linear classifier on frozen features and class-balanced batches"
    source = "Kang et al. 2020, section 4.1 (cRT)"
    stages = ("training", "classifier")
    compute = 1.11

    classifier_epochs: int | None = None
    lr_ratio: float = 1.0
    norm: Literal["eval", "track"] = "eval"

    def __post_init__(self) -> None:
        check_choices(self)
        check_whole(self, "classifier_epochs")
        check_positive(self, "lr_ratio")

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with a linear classifier."""
        return new_classified(open_backbone(spec.backbone), len(spec.classes), torch.Generator())

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs of balanced training as they are."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train features and classifier, forget the classifier, train another."""
        retraining = partial(self._retraining, problem)
        plain, plan = plain_features(problem, engine, retraining, self, EPOCHS)
        network = engine.train("classifier", retraining(plain), problem.train, plan, ClassAware()).network
        return self.reads(network, problem.spec(self))

    def _retraining(self, problem: Problem, plain: Forked) -> Supervised:
        backbone = plain.path(0)
        freeze(backbone, self.norm)
        network = new_classified(backbone, problem.counts.num_classes, problem.generator("new classifier"))
        return Supervised(network, CrossEntropy())
