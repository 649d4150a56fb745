"""Classifier re-training (cRT): features from the data as they are, a new classifier from balanced batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import nn

from forktail.backbones.classified import Classified
from forktail.backbones.classifiers import linear_classifier
from forktail.backbones.layered import Layered
from forktail.backbones.open import open_backbone
from forktail.data.sampling import ClassAware
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._method import Method, Problem
from forktail.methods._two_stages import check_classifier_stage, plain_training, two_plans
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
        check_classifier_stage(self.classifier_epochs, self.lr_ratio)

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with a linear classifier."""
        return self._network(open_backbone(spec.backbone), len(spec.classes), torch.Generator())

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs of balanced training as they are."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train features and classifier, forget the classifier, train another."""
        plans = two_plans(
            problem,
            engine,
            (lambda: plain_training(problem.network()), lambda: self._retraining(problem, problem.backbone())),
            classifier_epochs=self.classifier_epochs,
            published=EPOCHS,
            lr_ratio=self.lr_ratio,
        )
        plain = problem.network()
        engine.train("training", plain_training(plain), problem.train, plans[0])
        retraining = self._retraining(problem, plain.path(0))
        network = engine.train("classifier", retraining, problem.train, plans[1], ClassAware()).network
        return self.reads(network, problem.spec(self))

    def _retraining(self, problem: Problem, backbone: Layered) -> Supervised:
        freeze(backbone, self.norm)
        generator = problem.generator("new classifier")
        return Supervised(self._network(backbone, problem.counts.num_classes, generator), CrossEntropy())

    def _network(self, backbone: Layered, num_classes: int, generator: torch.Generator) -> Classified:
        return Classified(backbone, linear_classifier(backbone.num_features, num_classes, generator))
