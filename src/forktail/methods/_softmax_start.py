"""From Bernoulli outputs to one softmax: where a refinement by balanced softmax starts.

Legend: N images, C classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor

from forktail.backbones.forked import Forked
from forktail.data.images import Images
from forktail.methods._method import Problem
from forktail.methods._outputs import adjust_classifiers, affordable, outputs_flops, outputs_of
from forktail.predictor import uniform_scores
from forktail.training.engine import Arrays, Engine
from forktail.training.randomness import seed_of
from forktail.training.stage import state_digest


def make_softmax(problem: Problem, engine: Engine, assembled: Forked, tau: float) -> None:
    """Give the classifiers of a network the offsets that a softmax needs to predict like the rule ``posterior``.

    Args:
        problem: Its training images are looked at, without augmentation.
        engine: Keeps the offsets.
        assembled: Of Bernoulli outputs; changed in place.
        tau: Strength of the adjustment in training.
    """
    images, device = offset_images(problem), engine.runtime.device

    def make() -> Arrays:
        log_prior = torch.from_numpy(np.log(problem.counts.prior))
        return {"offsets": softmax_offsets(outputs_of(assembled, images, device), log_prior, tau).numpy()}

    inputs = [state_digest(assembled), images.fingerprint, problem.counts.per_class.tolist(), tau]
    found = engine.keep("offsets", inputs, make, flops=outputs_flops(assembled, images))
    adjust_classifiers(assembled, [1.0] * assembled.num_tasks, torch.from_numpy(found["offsets"]))


def offset_images(problem: Problem) -> Images:
    """Name the images that the offsets are fitted to.

    Args:
        problem: The problem.

    Returns:
        The training images without augmentation, or as many as there is memory for.
    """
    return affordable(problem.train.with_transform(problem.preprocess), seed_of(problem.seed, "offsets"))


def softmax_offsets(outputs: Tensor, log_prior: Tensor, tau: float) -> Tensor:
    r"""Find what to add to each class's output so that a softmax predicts as the rule ``posterior`` does.

    The exact scores are $z_c - \log(1 - \pi_c) + \log(1 - p_c(x))$ at tau = 1, with p_c the probability that the
    outputs give under the training prior; so no constant does for every image. Taken is the o that minimises

        mean_i KL(softmax(posterior scores of z_i) || softmax(z_i + o)),

    a convex problem whose solution is unique but for a constant: the one of sum 0.

    Args:
        outputs: (N, C) z in double precision.
        log_prior: (C,) logarithms of the training prior.
        tau: Strength of the adjustment in training.

    Returns:
        (C,) offsets in nats, in double precision.

    Example:
        >>> outputs = torch.tensor([[0.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
        >>> softmax_offsets(outputs, torch.tensor([0.9, 0.1], dtype=torch.float64).log(), tau=1.0).round(decimals=2)
        tensor([ 0.2000, -0.2000], dtype=torch.float64)
    """
    wanted = torch.softmax(uniform_scores(outputs, log_prior, "posterior", tau), dim=1)
    mean_wanted = wanted.mean(0)

    def evaluate(offsets: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        """Return the mean cross-entropy, which is the divergence but for a constant, and its gradient."""
        o = torch.from_numpy(offsets)
        log_p = torch.log_softmax(outputs + o, dim=1)
        gradient = log_p.exp().mean(0) - mean_wanted
        return float(-(wanted * log_p).sum(1).mean()), gradient.numpy()

    found = minimize(evaluate, np.zeros(len(log_prior)), jac=True, method="L-BFGS-B")
    return torch.from_numpy(found.x - found.x.mean())
