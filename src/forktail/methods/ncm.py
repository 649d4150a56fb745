"""Nearest class mean: the classifier of plain training is thrown away, the mean features of classes take its place.

Legend: N images, B of a batch, C classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.classified import Classified
from forktail.backbones.open import open_backbone
from forktail.methods._features import features_flops, training_features
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_choices, check_positive
from forktail.methods._two_stages import plain_training
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine

Features = Literal["cl2n", "l2n", "un"]


@final
@dataclass(frozen=True)
class NCM(Method):
    """Train by plain cross-entropy, predict the class whose mean feature is nearest: z_c = -scale ||x - mu_c||^2.

    A comparison trains the one stage together with ``ce``'s; the means come from one pass over the training images
    without augmentation.

    Args:
        features: What distances are taken between: features less their mean over the training images and of length 1
            (``cl2n``), features of length 1 (``l2n``), or features as they are (``un``).
        scale: Makes logits of squared distances, which are at most 4 between vectors of length 1. It moves no decision
            under the uniform prior, but how sure the probabilities are.
    """

    summary = "plain training, then the nearest mean feature of a class"
    source = "Kang et al. 2020, section 4.1 (NCM)"
    stages = ("training", "features")
    compute = 1.01

    features: Features = "cl2n"
    scale: float = 10.0

    def __post_init__(self) -> None:
        check_choices(self)
        check_positive(self, "scale")

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network without means."""
        backbone = open_backbone(spec.backbone)
        return Classified(backbone, self._means(backbone.num_features, len(spec.classes)))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read scaled distances, in which no class is larger than another."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images, then take the mean features of every class."""
        network = problem.network()
        plan = engine.plan
        if plan.flops is not None:
            (plan,) = engine.plans(
                [(lambda: plain_training(problem.network()), problem.train, plan.epochs)],
                reserve=features_flops(problem, network.path(0)),
            )
        engine.train("training", plain_training(network), problem.train, plan)
        backbone = network.path(0)
        features = training_features(problem, engine, backbone)
        means = self._means(backbone.num_features, problem.counts.num_classes).to(features.device)
        means.take(features, torch.from_numpy(problem.train.labels).to(features.device))
        return self.reads(Classified(backbone, means).eval(), problem.spec(self))

    def _means(self, num_features: int, num_classes: int) -> NearestMean:
        return NearestMean(num_features, num_classes, self.features, self.scale)


@final
class NearestMean(nn.Module):
    r"""$z_c = -s \|\phi(h) - \mu_c\|^2$, where phi centres features and brings them to length 1, or does one or none.

    The means mu_c are those of phi(h) and not of length 1 themselves, as in the authors' code.

    Args:
        num_features: D.
        num_classes: C.
        kind: ``cl2n`` centres and normalises, ``l2n`` normalises, ``un`` does neither.
        scale: s.

    Example:
        >>> means = NearestMean(2, 2, "un", scale=1.0)
        >>> means.take(torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 4.0]]), torch.tensor([0, 0, 1]))
        >>> means(torch.tensor([[1.0, 1.0]]))
        tensor([[ -1., -18.]])
    """

    centre: Tensor
    means: Tensor

    def __init__(self, num_features: int, num_classes: int, kind: Features, scale: float) -> None:
        super().__init__()
        self.kind = kind
        self.scale = scale
        self.register_buffer("centre", torch.zeros(num_features))
        self.register_buffer("means", torch.zeros(num_classes, num_features))

    def take(self, features: Tensor, labels: Tensor) -> None:
        """Learn centre and means.

        Args:
            features: (N, D) of the training images.
            labels: (N,) their classes; every class has one.
        """
        if self.kind == "cl2n":
            self.centre.copy_(features.mean(0))
        one_hot = F.one_hot(labels, len(self.means)).to(features.dtype)
        sums = one_hot.T @ self._seen(features)
        self.means.copy_(sums / one_hot.sum(0).unsqueeze(1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) features to (B, C) logits."""
        seen = self._seen(features)
        # ||x||^2 - 2 <x, mu> + ||mu||^2: one matrix product in place of B C D differences.
        squares = seen.square().sum(1, keepdim=True) - 2 * seen @ self.means.T + self.means.square().sum(1)
        return -self.scale * squares

    def _seen(self, features: Tensor) -> Tensor:
        return features - self.centre if self.kind == "un" else F.normalize(features - self.centre)

    def extra_repr(self) -> str:
        """Name the settings, as PyTorch's modules do."""
        return f"kind={self.kind}, scale={self.scale}"
