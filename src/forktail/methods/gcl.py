"""GCL: Gaussian clouds around the logits, the larger the rarer the class, then a new classifier.

Legend: B images of a batch, C classes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.classified import Classified
from forktail.backbones.layered import Layered
from forktail.backbones.open import open_backbone
from forktail.data.sampling import Weighted
from forktail.labels import ClassCounts
from forktail.losses._log_odds import log_odds_against
from forktail.methods._method import Method, Problem
from forktail.methods._networks import new_classified
from forktail.methods._ranges import check_not_negative, check_positive, check_whole
from forktail.methods._two_stages import two_plans
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.objective import Batch, Objective, freeze

EPOCHS = 30  # of the second stage: CIFAR, after 200
SPREAD = 1 / 3  # standard deviation of the noise, which is cut off at 1


@final
@dataclass(frozen=True)
class GCL(Method):
    """Train a cosine classifier whose logits fall at random, freeze the backbone, train another on balanced data.

    z_c = s (cos_c - kappa |xi_c| delta_c / max delta - m [c = y]), xi_c ~ N(0, 1/3) cut off at 1, delta_c = log n_max -
    log n_c. The second stage draws every class equally often and turns the loss down where it is right (focal, its
    modulator a constant for the gradient). Both see mixed images; what the plan says of mixing gives way to ``mixup``.
    The noise is drawn once per image, also where two are mixed: both classes' parts of the loss see the same cloud.

    Args:
        noise_mul: kappa, strength of the clouds in both stages, >= 0.
        s: Scale of the first stage's cosines, > 0.
        m: Margin of the first stage, as a cosine, >= 0.
        classifier_s: Scale of the second stage's cosines and of the predictions, > 0.
        classifier_m: Margin of the second stage, as a cosine, >= 0.
        gamma: Focal exponent of the second stage, >= 0; 0 gives cross-entropy.
        mixup: alpha of mixup in both stages.
        classifier_epochs: Length of the second stage; None is the authors' 30 epochs, or
            the plan's if they are fewer.
        lr_ratio: Learning rate of the second stage over the plan's; the authors' code comes to 0.02, in far more steps.
    """

    summary = "cosine logits clouded by noise that grows for rare classes, then a classifier on balanced batches"
    source = "Li et al. 2022 (GCL), eqs. 9 to 12, as in its code"
    stages = ("training", "classifier")
    compute = 1.33

    noise_mul: float = 0.5
    s: float = 30.0
    m: float = 0.0
    classifier_s: float = 20.0
    classifier_m: float = 0.1
    gamma: float = 1.0
    mixup: float = 1.0
    classifier_epochs: int | None = None
    lr_ratio: float = 1.0

    def __post_init__(self) -> None:
        check_not_negative(self, "noise_mul", "m", "classifier_m", "gamma", "mixup")
        check_positive(self, "s", "classifier_s", "lr_ratio")
        check_whole(self, "classifier_epochs")

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with the second stage's cosine classifier."""
        return new_classified(open_backbone(spec.backbone), len(spec.classes), torch.Generator(), self.classifier_s)

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read scaled cosines as they are."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train features under clouds, then a new classifier under clouds, margin and balance."""
        makers = (lambda: self._features(problem), lambda: self._retraining(problem, problem.backbone()))
        plans = two_plans(problem, engine, makers, self, EPOCHS)
        first, second = (dataclasses.replace(plan, mix=Mix(mixup=self.mixup)) for plan in plans)
        trained = engine.train("training", self._features(problem), problem.train, first).network
        retraining = self._retraining(problem, trained.backbone)
        network = engine.train("classifier", retraining, problem.train, second, Weighted("balanced")).network
        return self.reads(network, problem.spec(self))

    def _features(self, problem: Problem) -> Clouded:
        generator = problem.generator("classifier")
        network = new_classified(problem.backbone(), problem.counts.num_classes, generator, self.s)
        return Clouded(network, problem.counts, cloud=self.s * self.noise_mul, margin=self.s * self.m, gamma=0.0)

    def _retraining(self, problem: Problem, backbone: Layered) -> Clouded:
        freeze(backbone)
        s = self.classifier_s
        network = new_classified(backbone, problem.counts.num_classes, problem.generator("new classifier"), s)
        cloud, margin = s * self.noise_mul, s * self.classifier_m
        return Clouded(network, problem.counts, cloud=cloud, margin=margin, gamma=self.gamma)


def cloud_sizes(counts: ClassCounts) -> Tensor:
    """Say how large each class's cloud is, ``(log n_max - log n_c) / (log n_max - log n_min)``.

    Args:
        counts: Training images per class.

    Returns:
        (C,) sizes: 0 at the most frequent class, 1 at the rarest; zeros where all are equally frequent.

    Example:
        >>> cloud_sizes(ClassCounts(np.array([100, 10, 1])))
        tensor([0.0000, 0.5000, 1.0000])
    """
    behind = np.log(counts.per_class.max()) - np.log(counts.per_class)
    return torch.tensor(behind / (behind.max() or 1.0), dtype=torch.float32)


def half_normal_noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw ``|clamp(xi, -1, 1)|`` with xi ~ N(0, 1/3), the standard deviation being 1/3.

    Args:
        shape: (B, C): every image and class gets noise of its own.
        generator: Where it is drawn from.

    Returns:
        Noise in [0, 1], on the generator's device.

    Example:
        >>> noise = half_normal_noise((1000, 2), torch.Generator().manual_seed(0))
        >>> bool((noise >= 0).all() and (noise <= 1).all())
        True
    """
    drawn = torch.randn(shape, generator=generator, device=generator.device)
    return (SPREAD * drawn).clamp(-1, 1).abs()


def clouded_loss(logits: Tensor, targets: Tensor, lowered: Tensor, margin: float, gamma: float) -> Tensor:
    """Compute ``sum_c t_c (1 - p_c)^gamma (-log p_c)``, where p_c is of logits with a cloud, and a margin on c.

    Mixed images pay for each of their classes with that class's margin, as lambda L(y_a) + (1 - lambda) L(y_b). The
    modulator is a constant for the gradient (GCL's code).

    Args:
        logits: (B, C) scaled cosines.
        targets: (B, C) one-hot or soft.
        lowered: (B, C) what the noise takes off the logits.
        margin: What is taken off the true class's logit beside it.
        gamma: Focal exponent; 0 gives cross-entropy.

    Returns:
        (B,) losses in nats.

    Example:
        >>> flat, none = torch.zeros(1, 2), torch.zeros(1, 2)
        >>> clouded_loss(flat, torch.tensor([[1.0, 0.0]]), none, margin=0.0, gamma=0.0)
        tensor([0.6931])
    """
    against = log_odds_against(logits - lowered) + margin
    modulator = (gamma * F.logsigmoid(against)).exp().detach()  # 1 - p_c = sigmoid(against)
    return -(targets * modulator * F.logsigmoid(-against)).sum(1)


@final
class Clouded(Objective):
    """A network of scaled cosines under clouds.

    Args:
        network: Maps (B, 3, H, W) inputs to (B, C) scaled cosines.
        counts: Training images per class.
        cloud: Largest fall of the rarest class's logit.
        margin: On the true class's logit.
        gamma: Focal exponent.
    """

    sizes: Tensor

    def __init__(self, network: Classified, counts: ClassCounts, *, cloud: float, margin: float, gamma: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("sizes", cloud * cloud_sizes(counts))
        self.margin = margin
        self.gamma = gamma

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""
        logits = self.network(batch.inputs).float()
        noise = half_normal_noise(tuple(logits.shape), batch.generator).to(logits)
        dense = batch.targets if batch.targets.is_floating_point() else F.one_hot(batch.targets, logits.shape[1])
        return clouded_loss(logits, dense.to(logits), self.sizes * noise, self.margin, self.gamma)
