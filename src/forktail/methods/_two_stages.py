"""Features first, then a classifier on a backbone that no longer learns (Kang et al. 2020, "decoupling")."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._method import Problem
from forktail.training.engine import Engine
from forktail.training.objective import Objective, Supervised
from forktail.training.plan import Plan

ADAPTIVE = 10.0  # see `scales_lr_ratio`


def check_classifier_stage(epochs: int | None, lr_ratio: float | None) -> None:
    """Refuse a length or learning rate of the second stage that is none.

    Args:
        epochs: The method's ``classifier_epochs``.
        lr_ratio: The method's ``lr_ratio``.

    Raises:
        InputError: If the length is negative or the ratio not a number above 0.
    """
    if epochs is not None and epochs < 0:
        raise InputError(f"method.classifier_epochs = {epochs}", expected="a whole number >= 0")
    if lr_ratio is not None and not 0 < lr_ratio < float("inf"):
        raise InputError(f"method.lr_ratio = {lr_ratio}", expected="a number > 0; 1 is the plan's learning rate")


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
    *,
    classifier_epochs: int | None,
    published: int,
    lr_ratio: float,
) -> tuple[Plan, Plan]:
    """Plan the features, as long as the engine's plan says, and the classifier.

    Args:
        problem: Its images.
        engine: Its plan; ``plan.flops`` are divided between both.
        make_stages: What makes the two objectives, untrained.
        classifier_epochs: Length of the second, or None.
        published: Its published length, which counts where that is None, but is never more than the first's. It is not
            scaled down with the first, because a classifier needs its steps however short the features were trained.
        lr_ratio: Its learning rate over the plan's.

    Returns:
        One plan per stage.
    """
    epochs = min(published, engine.plan.epochs) if classifier_epochs is None else classifier_epochs
    lengths = (engine.plan.epochs, epochs)
    first, second = engine.plans([(make, problem.train, n) for make, n in zip(make_stages, lengths, strict=True)])
    return first, dataclasses.replace(second, lr=lr_ratio * second.lr, min_lr=lr_ratio * second.min_lr)


def plain_training(network: Forked) -> Supervised:
    """Return what ``ce`` trains, to the letter: a comparison then trains it once for all that begin with it.

    Args:
        network: As the problem makes it.

    Returns:
        The objective, untrained.
    """
    return Supervised(network, CrossEntropy())
