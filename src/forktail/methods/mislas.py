"""MiSLAS: features from mixed images, then the classifier under smoothing that knows how frequent each class is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import Literal, final

import torch
from torch import Tensor, nn

from forktail.backbones.classified import Classified
from forktail.backbones.classifiers import ScaledClassifier
from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.data.sampling import ClassAware
from forktail.losses.label_aware_smoothing import LabelAwareSmoothing
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_choices, check_fraction, check_not_negative, check_positive, check_whole
from forktail.methods._two_stages import plain_features, scaled
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.objective import Batch, Objective, freeze

EPOCHS = 10  # of the second stage: after 180 on ImageNet-LT, 200 on CIFAR and iNaturalist, 90 on Places-LT


@final
@dataclass(frozen=True)
class MiSLAS(Method):
    """Train by cross-entropy under mixup, freeze the backbone, train the classifier and a factor per class.

    The second stage sees class-aware batches without mixing, and labels smoothed from ``smooth_tail`` at the rarest to
    ``smooth_head`` at the most frequent class. What the plan says of mixing gives way to ``mixup``. A batch norm's
    statistics follow the balanced batches ("shifted batch norm"); a backbone without one, such as a ViT, has none to
    shift.

    Args:
        mixup: alpha of the first stage's mixup; published: 0.2, and 1 on CIFAR.
        smooth_head: Smoothing of the most frequent class, in [0, 1]; published: 0.3, and 0.4 with a tail of 0.1.
        smooth_tail: Smoothing of the rarest class, in [0, 1].
        shape: How smoothing grows in between (see the loss).
        shift_bn: Whether batch norm's statistics follow; published: always but on CIFAR-10.
        lr_factor: Learning rate of the classifier over that of the factors; published: 0.05, and 0.1 to 0.5 on CIFAR.
        classifier_epochs: Length of the second stage; None is the authors' 10 epochs, or
            the plan's if they are fewer.
        lr_ratio: Learning rate of the factors over the plan's; None is 1 under SGD, as the authors have it, and 10
            under other optimisers, whose steps would not take a factor far from 1.
    """

    summary = "mixup training, then the classifier under label-aware smoothing on class-balanced batches"
    source = "Zhong et al. 2021 (MiSLAS), sections 3.2 to 3.4"
    stages = ("training", "classifier")
    compute = 1.11

    mixup: float = 0.2
    smooth_head: float = 0.3
    smooth_tail: float = 0.0
    shape: Literal["concave", "linear", "convex"] = "concave"
    shift_bn: bool = True
    lr_factor: float = 0.05
    classifier_epochs: int | None = None
    lr_ratio: float | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        check_not_negative(self, "mixup")
        check_fraction(self, "smooth_head", "smooth_tail")
        check_whole(self, "classifier_epochs")
        check_positive(self, "lr_factor", "lr_ratio")

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with a scaled classifier."""
        return scaled(Forked.single(open_backbone(spec.backbone), len(spec.classes)))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs of balanced training as they are."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train features and classifier on mixed images, then classifier and factors on balanced batches."""
        smoothing = partial(self._smoothing, problem)
        plain, plan = plain_features(problem, engine, smoothing, self, EPOCHS, Mix(mixup=self.mixup))
        unmixed = dataclasses.replace(plan, mix=Mix())
        network = engine.train("classifier", smoothing(plain), problem.train, unmixed, ClassAware()).network
        return self.reads(network, problem.spec(self))

    def _smoothing(self, problem: Problem, plain: Forked) -> LabelAwareRetraining:
        network = scaled(plain)
        freeze(network.backbone, "track" if self.shift_bn else "eval")
        loss = LabelAwareSmoothing(problem.counts, self.smooth_head, self.smooth_tail, self.shape)
        return LabelAwareRetraining(network, loss, self.lr_factor)


@final
class LabelAwareRetraining(Objective):
    """A network under label-aware smoothing, whose classifier learns at another rate than its factors.

    After every step, the classifier goes back to where ``lr_factor`` times the learning rate would have brought it:
    theta <- theta_before + lr_factor (theta - theta_before). This is the same for SGD, Adam with its decoupled weight
    decay and LAMB, since each one's step is proportional to its learning rate.

    Args:
        network: Ends in a scaled classifier.
        loss: Maps logits and targets to (B,) losses.
        lr_factor: Learning rate of the classifier over that of its factors.
    """

    weight_before: Tensor
    bias_before: Tensor

    def __init__(self, network: Classified, loss: LabelAwareSmoothing, lr_factor: float) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.lr_factor = lr_factor
        self.register_buffer("weight_before", self.classifier.weight.detach().clone())
        self.register_buffer("bias_before", self.classifier.bias.detach().clone())

    @property
    def classifier(self) -> nn.Linear:
        """The linear map below the factors."""
        scaled = self.network.classifier
        assert isinstance(scaled, ScaledClassifier)
        return scaled.classifier

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""
        losses: Tensor = self.loss(self.network(batch.inputs), batch.targets)
        return losses

    @torch.no_grad()
    def after_step(self) -> None:
        """Take back what the classifier moved too far."""
        pairs = ((self.classifier.weight, self.weight_before), (self.classifier.bias, self.bias_before))
        for value, before in pairs:
            value.copy_(before.lerp(value, self.lr_factor))
            before.copy_(value)
