"""Focal loss: images that the network gets right count less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.losses.focal import Focal as FocalLoss
from forktail.methods._method import Method, Problem
from forktail.methods._ranges import check_not_negative
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Supervised


@final
@dataclass(frozen=True)
class Focal(Method):
    """(1 - p_y)^gamma times the cross-entropy, p = softmax(z); predicts argmax z. It does not know the class counts.

    Args:
        gamma: >= 0; 0 is cross-entropy. LADE and LIFT run 2, LDAM's authors 1.
        through: Whether the gradient passes through the modulator, as Lin et al., LDAM and LIFT have it, or not, as
            LADE and GCL have it.
    """

    summary = "cross-entropy that counts less where the network is right"
    source = "Lin et al. 2017, eq. 4, on a softmax"
    stages = ("training",)
    compute = 1.0

    gamma: float = 2.0
    through: bool = True

    def __post_init__(self) -> None:
        check_not_negative(self, "gamma")

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs that carry the training prior, and predict under it."""
        return Predictor(network, spec, rule="softmax", home="train")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images."""
        loss = FocalLoss(self.gamma, self.through)
        trained = engine.train("training", Supervised(problem.network(), loss), problem.train).network
        return self.reads(trained, problem.spec(self))
