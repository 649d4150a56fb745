"""Tau-normalisation: class weights divided by a power of their norm, which grows with the class.

Legend: N images, C classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.data.images import Images
from forktail.errors import InputError
from forktail.methods._features import one_pass
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_choices, check_not_negative
from forktail.methods._two_stages import plain_training
from forktail.predictor import ModelSpec, Predictor
from forktail.training.cost import inference_flops
from forktail.training.engine import Engine
from forktail.training.stage import state_digest

TAUS = torch.linspace(0, 2, 21, dtype=torch.float64)  # the authors' sweep


@final
@dataclass(frozen=True)
class TauNorm(Method):
    """Train by plain cross-entropy, predict z_c = s <W_c, h> / ||W_c||^tau, without bias.

    s is the geometric mean of the ||W_c||^tau: it moves no decision and leaves the logits on the scale on which they
    were trained. A comparison trains the one stage together with ``ce``'s.

    Args:
        tau: 0 keeps the weights, 1 gives all classes weights of one length. ``validation`` takes the most accurate of
            0, 0.1, ... 2 on the held-out part, by the mean accuracy of classes; the smaller one of two that tie.
    """

    summary = "plain training, then class weights divided by a power of their norm"
    source = "Kang et al. 2020, eq. 4"
    stages = ("training",)
    compute = 1.0

    tau: float | Literal["validation"] = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        if self.tau != "validation":
            check_not_negative(self, "tau")

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs whose weights are balanced as they are."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images, then shorten the weights of its large classes."""
        held_out = _held_out(problem) if self.tau == "validation" else None
        network = problem.network()
        cost = _pass_flops(problem, network, held_out) if held_out else 0.0
        plan = engine.plan
        if held_out:
            (plan,) = engine.plans(
                [(lambda: plain_training(problem.network()), problem.train, plan.epochs)], reserve=cost
            )
        engine.train("training", plain_training(network), problem.train, plan)
        classifier = network.classifier(0)
        tau = _best_tau(network, held_out, engine, cost) if held_out else float(self.tau)
        with torch.no_grad():
            classifier.weight.copy_(_common_scale(classifier.weight, tau) * tau_normalised(classifier.weight, tau))
            classifier.bias.zero_()
        return self.reads(network, problem.spec(self, tau=tau))


def tau_normalised(weight: Tensor, tau: float) -> Tensor:
    r"""Divide each class's weights by a power of their length, $W_c / \|W_c\|^\tau$ (Kang et al. 2020, eq. 4).

    Args:
        weight: (C, D) weights of a linear classifier.
        tau: 0 changes nothing, 1 gives rows of length 1.

    Returns:
        (C, D) weights.

    Example:
        >>> tau_normalised(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), tau=1.0)
        tensor([[0.6000, 0.8000],
                [0.0000, 1.0000]])
    """
    normalised: Tensor = weight / weight.norm(dim=1, keepdim=True) ** tau
    return normalised


def _common_scale(weight: Tensor, tau: float) -> Tensor:
    """Return the geometric mean of what the classes' weights are divided by."""
    scale: Tensor = (tau * weight.norm(dim=1).log().mean()).exp()
    return scale


def _held_out(problem: Problem) -> Images:
    """Find the images that tau is chosen on; of every class there must be one."""
    missing = [] if problem.val is None else np.flatnonzero(problem.val.class_counts() == 0).tolist()
    if problem.val is None or missing:
        found = f"class {problem.train.classes[missing[0]]} has none" if missing else "there are none"
        raise InputError(
            f'method.tau = "validation", but of held-out images {found}',
            expected="at least one of every class",
            remedy="set method.tau = 1.0, or data.validation = true where every class has an image to hold out",
        )
    return problem.val.with_transform(problem.preprocess)


def _pass_flops(problem: Problem, network: Forked, images: Images) -> float:
    return float(len(images) * inference_flops(network.path(0), problem.preprocess.shape))


def _best_tau(network: Forked, images: Images, engine: Engine, cost: float) -> float:
    """Choose tau by the mean accuracy of classes on held-out images."""
    backbone = network.path(0)
    features = engine.keep(
        "validation features",
        [state_digest(backbone), images.fingerprint],
        lambda: {"features": one_pass(backbone, images, engine)},
        flops=cost,
    )["features"]
    weight = network.classifier(0).weight.detach().double().cpu()
    hidden, labels = torch.from_numpy(features).double(), torch.from_numpy(images.labels)
    accuracies = torch.stack([balanced_accuracy(hidden @ tau_normalised(weight, float(tau)).T, labels) for tau in TAUS])
    return round(float(TAUS[accuracies.argmax()]), 1)


def balanced_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Average the accuracies of the classes.

    Args:
        scores: (N, C).
        labels: (N,) classes, of each of the C at least one.

    Returns:
        The mean, in [0, 1].

    Example:
        >>> balanced_accuracy(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0, 1]))
        tensor(0.5000, dtype=torch.float64)
    """
    right = (scores.argmax(1) == labels).double()
    number = torch.bincount(labels, minlength=scores.shape[1])
    return (torch.bincount(labels, right, minlength=scores.shape[1]) / number).mean()
