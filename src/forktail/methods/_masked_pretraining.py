"""Masked pretraining on the training images themselves, then fine-tuning: what ``mae`` and ``livt`` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from torch import nn

from forktail.backbones.forked import Forked
from forktail.labels import TaskSplit
from forktail.losses._loss import Loss
from forktail.methods._masked_autoencoder import MaskedAutoencoder
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_fraction, check_whole
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.objective import Objective, Supervised
from forktail.training.plan import Plan
from forktail.training.randomness import seed_of

PRETRAINING = 8  # epochs of pretraining for each of fine-tuning: 800 to 100
BETAS = (0.9, 0.95)  # of pretraining
HEAD = 32  # features of one attention head of the decoder


def pretrained_and_tuned(
    problem: Problem,
    engine: Engine,
    make_loss: Callable[[], Loss],
    *,
    pretraining_epochs: int | None,
    mask_ratio: float,
    layer_decay: float,
    mix: Mix,
) -> nn.Module:
    """Pretrain the problem's backbone by masked auto-encoding, then train it with a classifier.

    Labels and mixing play no part in pretraining; its augmentation is the training set's.

    Args:
        problem: Its training images serve both stages.
        engine: Trains.
        make_loss: Makes the loss of fine-tuning.
        pretraining_epochs: Length of pretraining; None is eight times the plan's, 0 leaves it out.
        mask_ratio: Share of the patches that pretraining removes.
        layer_decay: Of fine-tuning.
        mix: Of fine-tuning.

    Returns:
        The trained network of one task.
    """
    epochs = PRETRAINING * engine.plan.epochs if pretraining_epochs is None else pretraining_epochs
    pretraining = partial(autoencoder, problem, mask_ratio)

    def tuning(network: Forked | None = None) -> Supervised:
        return Supervised(network or problem.network(), make_loss())

    stages: list[tuple[Callable[[], Objective], int]] = [(pretraining, epochs)] if epochs else []
    stages.append((tuning, engine.plan.epochs))
    *first, last = engine.plans([(make, problem.train, length) for make, length in stages])
    start = _pretrained(problem, engine, pretraining(), first[0]) if first else None
    plan = dataclasses.replace(last, layer_decay=layer_decay, mix=mix)
    return engine.train("fine-tuning", tuning(start), problem.train, plan).network


def autoencoder(problem: Problem, mask_ratio: float) -> MaskedAutoencoder:
    """Put a decoder on a problem's backbone, two thirds as wide and as deep.

    That is the published decoder for ViT-B: 512 features of 768, 8 blocks of 12, 16 heads of 32 features.

    Args:
        problem: Whose backbone is to be pretrained.
        mask_ratio: Share of the patches that is removed.

    Returns:
        The objective.
    """
    backbone = problem.backbone()
    heads = max(1, round(backbone.num_features * 2 / 3 / HEAD))
    return MaskedAutoencoder(
        backbone,
        image_side=problem.picture_size,
        mask=mask_ratio,
        width=HEAD * heads,
        depth=max(1, round(backbone.depth * 2 / 3)),
        heads=heads,
        seed=seed_of(problem.seed, "decoder"),
    )


def check_pretraining(method: Method) -> None:
    """Refuse hyper-parameters of pretraining and tuning that are out of range.

    Args:
        method: With ``pretraining_epochs``, ``mask_ratio`` and ``layer_decay``.
    """
    check_whole(method, "pretraining_epochs")
    check_fraction(method, "mask_ratio", zero=False, one=False)
    check_fraction(method, "layer_decay", zero=False)


def _pretrained(problem: Problem, engine: Engine, objective: MaskedAutoencoder, plan: Plan) -> Forked:
    """Train the backbone and put a new classifier on it; the decoder has done its work."""
    plan = dataclasses.replace(plan, betas=BETAS, layer_decay=1.0, mix=Mix())
    backbone = engine.train("mae", objective, problem.train, plan).backbone
    split = TaskSplit.single(problem.counts.num_classes)
    return Forked(backbone, split, backbone.depth, seed_of(problem.seed, "classifier"))
