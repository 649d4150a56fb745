"""DisAlign: an adaptive calibration of the logits of a frozen network, learned under re-weighting by the prior.

Legend: B images of a batch, C classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from forktail.backbones.classified import Classified
from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.losses.generalized_reweighted import GeneralizedReweighted
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_not_negative, check_positive, check_whole
from forktail.methods._two_stages import plain_features
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Batch, Objective, freeze, weighted_mean

EPOCHS = 10  # of the second stage: ImageNet-LT, after 90
CONFIDENCE_WEIGHT = 0.1  # every weight of the confidence's linear map at the start, as in the authors' code


@final
@dataclass(frozen=True)
class DisAlign(Method):
    """Train by plain cross-entropy, freeze it, learn z'_c = (1 + g a_c) z_c + g d_c with g = sigmoid(<v, h> + v0).

    The calibration sees the data as they are, under cross-entropy with weights pi_c^(-rho), averaged over a batch as
    sum w l / sum w. A comparison trains the first stage together with ``ce``'s.

    Args:
        rho: Exponent of the weights, >= 0; 0 weighs all alike. Published: 1.2 on ImageNet-LT.
        classifier_epochs: Length of the second stage; None is the authors' 10 epochs, or
            the plan's if they are fewer.
        lr_ratio: Learning rate of the second stage over the plan's; None is 1 under SGD, as the authors have it, and 10
            under other optimisers, whose steps would not take a magnitude far from 1.
    """

    summary = "plain training, then a learned per-image calibration of the frozen logits under re-weighting"
    source = "Zhang et al. 2021 (DisAlign), section 3.2 and eq. 11, as in its code"
    stages = ("training", "classifier")
    compute = 1.11

    rho: float = 1.2
    classifier_epochs: int | None = None
    lr_ratio: float | None = None

    def __post_init__(self) -> None:
        check_not_negative(self, "rho")
        check_whole(self, "classifier_epochs")
        check_positive(self, "lr_ratio")

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with a calibrated classifier."""
        return _calibrated(Forked.single(open_backbone(spec.backbone), len(spec.classes)), torch.Generator())

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs of balanced training as they are."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train features and classifier, then their calibration."""
        calibration = partial(self._calibration, problem)
        plain, plan = plain_features(problem, engine, calibration, self, EPOCHS)
        network = engine.train("classifier", calibration(plain), problem.train, plan).network
        return self.reads(network, problem.spec(self))

    def _calibration(self, problem: Problem, plain: Forked) -> Reweighted:
        freeze(plain)
        network = _calibrated(plain, problem.generator("confidence"))
        return Reweighted(network, GeneralizedReweighted(problem.counts, self.rho))


def calibrated_logits(logits: Tensor, confidence: Tensor, magnitude: Tensor, margin: Tensor) -> Tensor:
    """Calibrate logits, ``(1 + g a_c) z_c + g d_c``.

    The paper's magnitude is alpha = 1 + a: it interpolates ``g (alpha z + beta) + (1 - g) z``, with beta = d.

    Args:
        logits: z, (B, C).
        confidence: g, (B, 1) in (0, 1).
        magnitude: a, (C,).
        margin: d, (C,).

    Returns:
        (B, C) logits.

    Example:
        >>> z, g = torch.tensor([[2.0, 4.0]]), torch.tensor([[0.5]])
        >>> calibrated_logits(z, g, torch.ones(2), torch.tensor([0.0, 2.0]))
        tensor([[3., 7.]])
    """
    return (1 + confidence * magnitude) * logits + confidence * margin


@final
class CalibratedClassifier(nn.Module):
    """A classifier with DisAlign's calibration of its logits; it starts as (1 + g) z, which decides as z does.

    Args:
        classifier: The classifier that is calibrated; who trains it decides whether it is frozen.
        generator: Where the offset of the confidence is drawn from, as PyTorch draws a bias.

    Example:
        >>> plain = nn.Linear(2, 3)
        >>> x = torch.zeros(1, 2)
        >>> calibrated = CalibratedClassifier(plain, torch.Generator().manual_seed(0))
        >>> torch.equal(calibrated(x).argmax(1), plain(x).argmax(1))
        True
    """

    def __init__(self, classifier: nn.Linear, generator: torch.Generator) -> None:
        super().__init__()
        self.classifier = classifier
        bound = classifier.in_features**-0.5
        self.magnitude = nn.Parameter(torch.ones(classifier.out_features))
        self.margin = nn.Parameter(torch.zeros(classifier.out_features))
        self.confidence_weight = nn.Parameter(torch.full((1, classifier.in_features), CONFIDENCE_WEIGHT))
        self.confidence_bias = nn.Parameter(torch.empty(1).uniform_(-bound, bound, generator=generator))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) features to (B, C) logits."""
        confidence = (features @ self.confidence_weight.T + self.confidence_bias).sigmoid()
        return calibrated_logits(self.classifier(features), confidence, self.magnitude, self.margin)


@final
class Reweighted(Objective):
    """A network under a weighted loss, whose batch counts as sum w l / sum w.

    Args:
        network: Maps (B, 3, H, W) inputs to (B, C) logits.
        loss: A loss with a weight per class.
    """

    def __init__(self, network: nn.Module, loss: GeneralizedReweighted) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""
        return weighted_mean(self.loss, self.network(batch.inputs), batch.targets)


def _calibrated(plain: Forked, generator: torch.Generator) -> Classified:
    return Classified(plain.path(0), CalibratedClassifier(plain.classifier(0), generator))
