"""LIFT: a frozen backbone with a few trained parameters in every unit, and a cosine classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.classified import Classified
from forktail.backbones.classifiers import CosineClassifier
from forktail.backbones.layered import Layered
from forktail.backbones.open import open_backbone
from forktail.losses.logit_adjusted import LogitAdjusted
from forktail.methods._adapters import Kind, adapted
from forktail.methods._features import training_features
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_choices, check_not_negative, check_positive, check_whole
from forktail.predictor import ModelSpec, Predictor, for_pictures
from forktail.training.engine import Engine
from forktail.training.objective import Supervised


@final
@dataclass(frozen=True)
class LIFT(Method):
    """Freeze the backbone, train adapters and a cosine classifier by logit-adjusted cross-entropy.

    The classifier begins with the classes' mean features. The authors' foundation model also reads text, from which
    their classifier begins; a vision-only backbone has none, for which class means are their own alternative. Their
    test-time ensemble of crops is left out. It stands and falls with the backbone: on random weights it learns little.

    Args:
        adapter: ``adaptformer``: a bottleneck beside the MLP of each block, or behind each block of a ResNet; ``lora``:
            a low-rank map beside each linear map and convolution of each unit (the authors': queries and values).
        bottleneck: Features of a bottleneck, or rank; None is 2^floor(log2(C / 2L)) for C classes and L units, as
            many trained parameters as the classifier has or half of them, and at least 4 (CIFAR-100-LT's).
        scale: Of the cosines, > 0.
        tau: Strength of the logit adjustment in training.
    """

    summary = "frozen backbone with adapters in every unit and a cosine classifier, logit-adjusted"
    source = "Shi et al. 2024 (LIFT), long-tail learning with foundation model: heavy fine-tuning hurts"
    stages = ("features", "training")
    compute = 0.62

    adapter: Kind = "adaptformer"
    bottleneck: int | None = None
    scale: float = 25.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        check_not_negative(self, "tau")
        check_positive(self, "scale")
        check_whole(self, "bottleneck", least=1)

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with adapters."""
        backbone = open_backbone(spec.backbone)
        return self._network(backbone, len(spec.classes), for_pictures(spec.preprocess).size, torch.Generator())

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read scaled cosines of adjusted training as they are."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Take the class means, then train adapters and classifier."""
        num_classes = problem.counts.num_classes
        generator = problem.generator("adapters")
        network = self._network(problem.backbone(), num_classes, problem.picture_size, generator)
        features = training_features(problem, engine, problem.backbone().to(engine.runtime.device).eval())
        labels = torch.from_numpy(problem.train.labels).to(features.device)
        network.classifier.load_state_dict({"weight": class_directions(features, labels, num_classes)})
        objective = Supervised(network, LogitAdjusted(problem.counts, self.tau))
        (plan,) = engine.plans([(lambda: objective, problem.train, engine.plan.epochs)])
        trained = engine.train("training", objective, problem.train, plan).network
        return self.reads(trained, problem.spec(self))

    def _network(self, backbone: Layered, num_classes: int, side: int, generator: torch.Generator) -> Classified:
        bottleneck = self.bottleneck or default_bottleneck(num_classes, backbone.depth)
        classifier = CosineClassifier(backbone.num_features, num_classes, self.scale, generator)
        return Classified(adapted(backbone, self.adapter, bottleneck, side, generator), classifier)


def default_bottleneck(num_classes: int, num_units: int) -> int:
    """Make all adapters together about as large as the classifier: 2^floor(log2(C / 2L)), and at least 4.

    The authors' code goes down to 1, which none of their data sets needs: there, one rectifier that no image opens
    would leave a unit without adapter.

    Args:
        num_classes: C.
        num_units: L.

    Returns:
        Features of the bottleneck.

    Example:
        >>> default_bottleneck(1000, 12), default_bottleneck(10, 12)
        (32, 4)
    """
    return int(2 ** max(2, math.floor(math.log2(num_classes / (2 * num_units)))))


def class_directions(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Point a classifier's weights at the classes' mean features.

    Args:
        features: (N, D).
        labels: (N,) classes; every class has an image.
        num_classes: C.

    Returns:
        (C, D) unit vectors.

    Example:
        >>> class_directions(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0, 1]), 2)
        tensor([[1., 0.],
                [0., 1.]])
    """
    # The length of a sum is lost in the direction, so that nothing need be divided by the counts.
    return F.normalize(F.one_hot(labels, num_classes).to(features.dtype).T @ features)
