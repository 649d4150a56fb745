"""LADE: balanced softmax, and a term that makes each class's logit the density ratio that it should be.

Legend: B images of a batch, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.labels import ClassCounts
from forktail.losses._loss import class_prior, constant
from forktail.losses.balanced_softmax import BalancedSoftmax
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_not_negative
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Batch, Objective


@final
@dataclass(frozen=True)
class LADE(Method):
    """Balanced softmax plus alpha times a regularised Donsker-Varadhan estimate, which takes the whole batch.

    Defaults are those of the authors' CIFAR runs; they ran ImageNet-LT with 0.05 and 0.5, Places-LT with 0.005 and 0.1,
    iNaturalist with 0.05 and 0.5. The term compares images of a batch, so batches should be large against C. Predicts
    with z under a uniform prior, and with z + log p under any other.

    Args:
        alpha: Weight of the term, >= 0; 0 is balanced softmax.
        remine_lambda: lambda, which keeps the estimate's constant near zero, >= 0.
    """

    summary = "balanced softmax, and logits that estimate density ratios, for any test prior"
    source = "Hong et al. 2021, disentangling label distribution (LADE)"
    stages = ("training",)
    compute = 1.0

    alpha: float = 0.1
    remine_lambda: float = 0.01

    def __post_init__(self) -> None:
        check_not_negative(self, "alpha", "remine_lambda")

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs that are free of the training prior."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images."""
        objective = Disentangled(problem.network(), problem.counts, self.alpha, self.remine_lambda)
        trained = engine.train("training", objective, problem.train).network
        return self.reads(trained, problem.spec(self))


@final
class Disentangled(Objective):
    """Balanced softmax of each image, and the term of the batch.

    Args:
        network: Maps inputs to (B, C) logits.
        counts: Training images of each class.
        alpha: Weight of the term.
        lam: lambda.
    """

    needs_classes: ClassVar[bool] = True  # the term asks which images are of a class
    prior: Tensor

    def __init__(self, network: nn.Module, counts: ClassCounts, alpha: float, lam: float) -> None:
        super().__init__()
        self.network = network
        self.loss = BalancedSoftmax(counts)
        self.register_buffer("prior", constant(class_prior(counts)))
        self.alpha = alpha
        self.lam = lam

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats; the term is the same in each."""
        logits = self.network(batch.inputs).float()
        losses: Tensor = self.loss(logits, batch.targets)
        return losses + self.alpha * lade_regulariser(logits, batch.targets, self.prior, self.lam)

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        return f"alpha={self.alpha}, lam={self.lam}"


def lade_regulariser(logits: Tensor, targets: Tensor, prior: Tensor, lam: float) -> Tensor:
    r"""Compute LADE's term of a batch (Hong et al. 2021, "LADER").

    $R = \sum_c \pi_c (b_c + \lambda b_c^2 - a_c)$ with $a_c$ the mean of $z_{ic}$ over the batch's images of class c,
    and $b_c = \log \frac1B \sum_i e^{z_{ic}} / (\pi_c C)$ over all its images: the mean under the training prior turned
    into one under a uniform prior. A class that is absent has $a_c = 0$ and keeps the rest, as in the authors' code;
    their 1e-9 beside $\pi_c$ and 1e-8 beside the number of images are left out.

    Args:
        logits: (B, C) z.
        targets: (B,) classes.
        prior: (C,) pi of the training set.
        lam: lambda, >= 0.

    Returns:
        R in nats, without dimensions.

    Example:
        >>> lade_regulariser(torch.zeros(3, 2), torch.tensor([0, 0, 1]), torch.tensor([0.5, 0.5]), lam=0.1)
        tensor(0.)
    """
    num_images, num_classes = logits.shape
    members = F.one_hot(targets, num_classes).to(logits.dtype)
    own = (members * logits).sum(0) / members.sum(0).clamp(min=1)
    ratio = torch.logsumexp(logits - (prior * num_classes).log(), dim=0) - math.log(num_images)
    return (prior * (ratio + lam * ratio.square() - own)).sum()
