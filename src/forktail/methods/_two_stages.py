"""Features first, then a classifier on a backbone that no longer learns (Kang et al. 2020, "decoupling")."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from forktail.backbones.classified import Classified
from forktail.backbones.classifiers import ScaledClassifier
from forktail.backbones.forked import Forked
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._method import Problem
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.objective import Objective, Supervised
from forktail.training.plan import Plan

ADAPTIVE = 10.0  # see `scales_lr_ratio`


class TwoStages(Protocol):
    """A method's fields for its second stage."""

    @property
    def classifier_epochs(self) -> int | None:
        """Its length, or None for the published one."""

    @property
    def lr_ratio(self) -> float | None:
        """Its learning rate over the plan's, or None; see `scales_lr_ratio`."""


def scales_lr_ratio(lr_ratio: float | None, plan: Plan) -> float:
    """Say how fast numbers of a given size learn, as factors near 1 or unit vectors, over the plan's learning rate.

    The authors keep the learning rate, under SGD. Adam and LAMB move every number by at most about the learning rate a
    step, however steep the loss; at the rate of a backbone's weights such numbers would stay where they start. On
    validation pictures of a long-tailed Fashion-MNIST 10 was level with 1 or better for every method that asks.

    Args:
        lr_ratio: What the method says, or None.
        plan: Its optimiser decides where the method says nothing.

    Returns:
        The ratio: for None 1 under SGD, otherwise 10.

    Example:
        >>> scales_lr_ratio(None, Plan(optimizer="sgd")), scales_lr_ratio(None, Plan()), scales_lr_ratio(3.0, Plan())
        (1.0, 10.0, 3.0)
    """
    if lr_ratio is not None:
        return lr_ratio
    return 1.0 if plan.optimizer == "sgd" else ADAPTIVE


def two_plans(
    problem: Problem,
    engine: Engine,
    make_stages: tuple[Callable[[], Objective], Callable[[], Objective]],
    method: TwoStages,
    published: int,
) -> tuple[Plan, Plan]:
    """Plan the features, as long as the engine's plan says, and the classifier.

    Args:
        problem: Its images.
        engine: Its plan; ``plan.flops`` are divided between both.
        make_stages: What makes the two objectives, untrained.
        method: Says how long and how fast the second is.
        published: Its published length, which counts where that is None, but is never more than the first's. It is not
            scaled down with the first, because a classifier needs its steps however short the features were trained.

    Returns:
        One plan per stage.
    """
    epochs = min(published, engine.plan.epochs) if method.classifier_epochs is None else method.classifier_epochs
    lengths = (engine.plan.epochs, epochs)
    first, second = engine.plans([(make, problem.train, n) for make, n in zip(make_stages, lengths, strict=True)])
    ratio = scales_lr_ratio(method.lr_ratio, engine.plan)
    return first, dataclasses.replace(second, lr=ratio * second.lr, min_lr=ratio * second.min_lr)


def plain_features(
    problem: Problem,
    engine: Engine,
    make_second: Callable[[Forked], Objective],
    method: TwoStages,
    published: int,
    mix: Mix | None = None,
) -> tuple[Forked, Plan]:
    """Plan both stages, and train the first as ``ce`` does.

    Args:
        problem: Its images.
        engine: Trains.
        make_second: Makes the second stage's objective of a network of the first.
        method: Says how long and how fast the second is.
        published: Its published length; see `two_plans`.
        mix: Mixing of the first stage in place of the plan's.

    Returns:
        The trained network, and the second stage's plan.
    """
    makers = (lambda: plain_training(problem.network()), lambda: make_second(problem.network()))
    first, second = two_plans(problem, engine, makers, method, published)
    network = problem.network()
    engine.train("training", plain_training(network), problem.train, dataclasses.replace(first, mix=mix or first.mix))
    return network, second


def plain_training(network: Forked) -> Supervised:
    """Return what ``ce`` trains, to the letter: a comparison then trains it once for all that begin with it.

    Args:
        network: As the problem makes it.

    Returns:
        The objective, untrained.
    """
    return Supervised(network, CrossEntropy())


def scaled(plain: Forked) -> Classified:
    """Put a factor for each class on a network's classifier.

    Args:
        plain: Its modules are taken as they are, not copied.

    Returns:
        The network with factors of 1.
    """
    return Classified(plain.path(0), ScaledClassifier(plain.classifier(0)))
