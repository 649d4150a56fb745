"""A linear probe: the backbone's features as they are, under a logit-adjusted linear classifier.

Legend: N training images, D features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from forktail.backbones.forked import Forked
from forktail.backbones.layered import Layered
from forktail.backbones.open import open_backbone
from forktail.errors import InputError
from forktail.methods._features import features_flops, training_features
from forktail.methods._logistic_regression import (
    GRADIENT,
    MEMORY,
    evaluation_flops,
    logistic_regression,
    most_evaluations,
)
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_not_negative, check_positive, check_whole
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Arrays, Engine
from forktail.training.objective import freeze
from forktail.training.stage import state_digest

ROUNDING = 1e-6  # a feature that varies by less than this share of its mean shows the last digits of float32 alone


@final
@dataclass(frozen=True)
class LinearProbe(Method):
    """Multinomial logistic regression of z + tau log pi on frozen features, solved to its optimum; predicts with z.

    Every training image passes the backbone once, without augmentation. The features are standardised, and L-BFGS
    solves a convex problem in double precision from zero: epochs, batches and learning rates play no part, and of the
    plan only ``plan.flops`` counts, as a limit of which little is used.

    Biases carry no penalty, so they take up every offset: tau moves them by ``-tau log pi`` and leaves the weights as
    they are. At tau = 1 this is ordinary logistic regression whose prior is taken out afterwards.

    Args:
        tau: Strength of the adjustment; 1 is consistent for balanced accuracy.
        penalty: L2 penalty on the weights, ``penalty / 2`` times the sum of their squares, in nats per image at
            features of unit variance; scikit-learn calls ``1 / (N penalty)`` C. Under 5-fold cross-validation on the
            training images of ``glyphs`` and Fashion-MNIST-LT, 3e-4 to 1e-3 differ by less than a point.
        max_iterations: Where L-BFGS gives up; a note then says so.
    """

    summary = "frozen features under a logit-adjusted linear classifier: seconds on a CPU"
    source = "Menon et al. 2021, eq. 10, on features that nothing trains"
    stages = ("features", "classifier")
    compute = 0.01

    tau: float = 1.0
    penalty: float = 5e-4
    max_iterations: int = 400

    def __post_init__(self) -> None:
        check_not_negative(self, "tau")
        check_positive(self, "penalty")  # classes that can be told apart have no optimum without one
        check_whole(self, "max_iterations", least=1)

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs that are free of the training prior."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Take the features of all images, and solve for the classifier on them."""
        if problem.backbone_spec.has_random_weights:
            engine.note("the backbone's weights are random: the probe reads random features")
        network = problem.network().to(engine.runtime.device).eval()
        backbone = network.path(0)
        freeze(backbone)
        self._check_budget(problem, engine, backbone)
        features = training_features(problem, engine, backbone)
        self._solve(problem, engine, backbone, features, network.classifier(0))
        return self.reads(network, problem.spec(self))

    def _check_budget(self, problem: Problem, engine: Engine, backbone: Layered) -> None:
        cost = features_flops(problem, backbone)
        cost += most_evaluations(self.max_iterations) * _evaluation_flops(problem, backbone)
        if engine.plan.flops is not None and cost > engine.plan.flops:
            raise InputError(
                f"plan.flops = {engine.plan.flops:g}",
                expected=f"at least {cost:g}, for one pass over the images and the classifier on their features",
            )

    def _solve(
        self, problem: Problem, engine: Engine, backbone: Layered, features: Tensor, classifier: nn.Linear
    ) -> None:
        """Find the classifier of standardised features, and make it one of the features as they are."""
        labels = torch.from_numpy(problem.train.labels).to(features.device)
        offset = torch.from_numpy(self.tau * np.log(problem.counts.prior)).to(features.device)
        mean, scale = standardisation(features)

        def solve() -> Arrays:
            engine.progress.begin("classifier", 0, 1)
            solution = logistic_regression(
                (features - mean) / scale,
                labels,
                offset,
                penalty=self.penalty,
                max_iterations=self.max_iterations,
            )
            engine.progress.advance(1)
            engine.progress.end(f"{int(solution.evaluations)} evaluations")
            return {name: value.cpu().numpy() for name, value in solution._asdict().items()}

        found = engine.keep(
            "classifier",
            [self, state_digest(backbone), problem.train.with_transform(problem.preprocess).fingerprint],
            solve,
            flops=lambda solution: solution["evaluations"].item() * _evaluation_flops(problem, backbone),
            memory=_solution_memory(problem, backbone),
        )
        if (gradient := found["gradient"].item()) > GRADIENT:
            engine.note(
                f"the probe stopped where its gradient is {gradient:.1g} and not {GRADIENT:g}: raise "
                f"method.max_iterations (now {self.max_iterations}) or method.penalty (now {self.penalty:g})"
            )
        weights, biases = (torch.from_numpy(found[name]).to(features.device) for name in ("weights", "biases"))
        with torch.no_grad():
            classifier.weight.copy_(weights / scale)
            classifier.bias.copy_(biases - weights @ (mean / scale))


def standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Say what brings every feature to zero mean and unit variance.

    Args:
        features: (N, D).

    Returns:
        (D,) means and (D,) scales: standard deviations, or 1 for a feature that is constant.

    Example:
        >>> standardisation(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
        (tensor([2., 5.]), tensor([1., 1.]))
    """
    mean, std = features.mean(0), features.std(0, correction=0)
    return mean, torch.where(std > ROUNDING * mean.abs(), std, torch.ones_like(std))


def _numbers(problem: Problem, backbone: Layered) -> int:
    """N D, the size of the feature matrix."""
    return problem.counts.total * backbone.num_features


def _solution_memory(problem: Problem, backbone: Layered) -> int:
    """Bytes in double precision: features twice, as they are and standardised, logits, and the memory of L-BFGS."""
    num_classes = problem.counts.num_classes
    solution = num_classes * (backbone.num_features + 1)
    return 8 * (2 * _numbers(problem, backbone) + problem.counts.total * num_classes + 2 * MEMORY * solution)


def _evaluation_flops(problem: Problem, backbone: Layered) -> float:
    return evaluation_flops(problem.counts.total, backbone.num_features, problem.counts.num_classes)
