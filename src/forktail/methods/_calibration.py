"""One temperature and one offset per task, fitted on held-out images after all training.

Legend: N images, C classes, K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor

from forktail.backbones.forked import Forked
from forktail.data.images import Images
from forktail.methods._method import Problem
from forktail.methods._outputs import adjust_classifiers, affordable, outputs_flops, outputs_of
from forktail.predictor import Rule, uniform_scores
from forktail.training.engine import Arrays, Engine
from forktail.training.randomness import seed_of
from forktail.training.stage import state_digest

HOTTEST = 10.0  # temperatures lie in [1/10, 10]
FARTHEST = 10.0  # nats; where held-out images are told apart without error there is no optimum inside


def calibrate(problem: Problem, engine: Engine, network: Forked, rule: Rule, tau: float) -> None:
    """Calibrate a trained network on the held-out images; its classifiers take the numbers in.

    So the model needs nothing else to be saved; the run's ``calibration.json`` tells what was found.

    Args:
        problem: With held-out images.
        engine: Keeps the numbers.
        network: Changed in place.
        rule: How its outputs are read.
        tau: Strength of the logit adjustment in training.
    """
    images, device = held_out_images(problem), engine.runtime.device

    def make() -> Arrays:
        outputs, labels = outputs_of(network, images, device), torch.tensor(images.labels)
        log_prior = torch.from_numpy(np.log(problem.counts.prior))
        found = fit_calibration(outputs, labels, problem.split.tasks, log_prior, rule, tau)
        nll = np.array([found.before, found.after])
        return {"temperatures": found.temperatures, "offsets": found.offsets, "nll": nll}

    tasks, counts = [task.tolist() for task in problem.split.tasks], problem.counts.per_class.tolist()
    inputs = [state_digest(network), images.fingerprint, tasks, counts, rule, tau]
    found = engine.keep("calibration", inputs, make, flops=outputs_flops(network, images))
    facts = {name: values.tolist() for name, values in found.items()}
    engine.run.write_json("calibration.json", {"images": len(images), **facts})
    offsets = np.empty(problem.counts.num_classes)
    for task, classes in enumerate(problem.split.tasks):
        offsets[classes] = found["offsets"][task]
    adjust_classifiers(network, (1 / found["temperatures"]).tolist(), torch.from_numpy(offsets))


def held_out_images(problem: Problem) -> Images:
    """Name the images that are calibrated on.

    Args:
        problem: With held-out images; `OSDTW` refuses others before training.

    Returns:
        These, or as many as there is memory for.
    """
    assert problem.val is not None
    return affordable(problem.val.with_transform(problem.preprocess), seed_of(problem.seed, "calibration"))


@dataclass(frozen=True)
class Calibration:
    """What calibration found.

    Args:
        temperatures: (K,) T_t.
        offsets: (K,) o_t in nats: output z_c of task t becomes z_c / T_t + o_t.
        before: Negative log-likelihood of the held-out images in nats without it.
        after: The same with it.
    """

    temperatures: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    before: float
    after: float


def fit_calibration(
    outputs: Tensor, labels: Tensor, tasks: Sequence[npt.NDArray[np.int64]], log_prior: Tensor, rule: Rule, tau: float
) -> Calibration:
    """Fit temperatures and offsets by the likelihood of held-out images under a uniform class prior.

    Each class that has held-out images weighs as much as any other, and the posterior is that among these classes, so
    that a class too rare to be held out is not taken for one that never occurs. A task without such classes keeps
    T = 1 and o = 0. L-BFGS-B from there, in double precision: no chance is in it.

    Args:
        outputs: (N, C) outputs of the network in double precision.
        labels: (N,) classes.
        tasks: The classes of each task.
        log_prior: (C,) logarithms of the training prior.
        rule: How outputs are read.
        tau: Strength of the logit adjustment in training.

    Returns:
        The 2K numbers.

    Example:
        >>> z, y = torch.tensor([[4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 0.0]]).double(), torch.tensor([0, 0, 1, 1])
        >>> found = fit_calibration(z, y, [np.array([0, 1])], torch.tensor([0.5, 0.5]).double().log(), "adjusted", 1.0)
        >>> found.after < found.before, bool(found.temperatures[0] > 1)
        (True, True)
    """
    num_tasks, task_of = len(tasks), torch.empty(outputs.shape[1], dtype=torch.int64)
    for task, classes in enumerate(tasks):
        task_of[classes.tolist()] = task
    held = torch.bincount(labels, minlength=outputs.shape[1])
    absent = held == 0
    weights = 1 / (held[labels].double() * int((~absent).sum()))

    def loss(parameters: Tensor) -> Tensor:
        scale, offset = torch.exp(-parameters[:num_tasks])[task_of], parameters[num_tasks:][task_of]
        scores = uniform_scores(outputs * scale + offset, log_prior, rule, tau).masked_fill(absent, -torch.inf)
        of_label = scores.gather(1, labels[:, None]).squeeze(1)
        return (weights * (scores.logsumexp(1) - of_label)).sum()

    def evaluate(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        here = torch.from_numpy(parameters).requires_grad_()
        value = loss(here)
        (gradient,) = torch.autograd.grad(value, [here])
        return float(value.detach()), gradient.numpy()

    limits = [(-np.log(HOTTEST), np.log(HOTTEST))] * num_tasks + [(-FARTHEST, FARTHEST)] * num_tasks
    start = np.zeros(2 * num_tasks)
    found = minimize(evaluate, start, jac=True, method="L-BFGS-B", bounds=limits)
    before, after = (float(loss(torch.from_numpy(x))) for x in (start, found.x))
    return Calibration(np.exp(found.x[:num_tasks]), found.x[num_tasks:], before, after)
