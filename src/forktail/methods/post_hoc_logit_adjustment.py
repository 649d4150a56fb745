"""Post-hoc logit adjustment: plain cross-entropy, whose outputs lose the training prior when they are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_not_negative
from forktail.methods._two_stages import plain_training
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine


@final
@dataclass(frozen=True)
class PostHocLogitAdjustment(Method):
    """Train by plain cross-entropy, predict argmax z - tau log pi.

    A comparison trains its one stage together with ``ce``'s, so that at tau = 1 the two differ in the prior alone.

    Args:
        tau: Strength of the adjustment; 1 is consistent for balanced accuracy, the authors also tune it.
    """

    summary = "plain cross-entropy, read with the training prior divided out"
    source = "Menon et al. 2021, eq. 9"
    stages = ("training",)
    compute = 1.0

    tau: float = 1.0

    def __post_init__(self) -> None:
        check_not_negative(self, "tau")

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs that carry the training prior once, and predict without it."""
        return Predictor(network, spec, rule="softmax", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images; what tau asks for beyond one prior goes into its bias."""
        network = problem.network()
        engine.train("training", plain_training(network), problem.train)
        predictor = self.reads(network, problem.spec(self)).to(engine.runtime.device)
        with torch.no_grad():
            network.classifier(0).bias.sub_((self.tau - 1) * predictor.log_prior)
        return predictor
