"""LDAM-DRW: margins that are larger for rare classes, then weights for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import nn

from forktail.backbones.classified import Classified
from forktail.backbones.open import open_backbone
from forktail.losses.ldam import LDAM as LDAMLoss  # noqa: N811 - a name of its own, no constant
from forktail.methods._method import Method, Problem
from forktail.methods._networks import new_classified
from forktail.methods._ranges import check_fraction, check_not_negative, check_positive
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.objective import Deferred


@final
@dataclass(frozen=True)
class LDAM(Method):
    """Cross-entropy of s (cos - m_y at the true class), m_c = max_m (min n / n_c)^(1/4), re-weighted late (DRW).

    The cosine classifier carries the scale s. After ``drw_start`` a batch counts as sum w l / sum w with the weights of
    the effective number, as in the authors' code (the paper writes 1 / n_c). Predicts by the cosines, without margin.

    Args:
        max_m: Margin of the rarest class, as a cosine, >= 0.
        s: Scale of the cosines, > 0.
        drw_start: Share of the training after which images are weighted, in [0, 1]: epoch 160 of 200; 1 never does.
        beta: Of the effective number, in [0, 1).
    """

    summary = "cosine classifier with margins that grow for rare classes, then deferred re-weighting (DRW)"
    source = "Cao et al. 2019, sections 3.2 and 3.3"
    stages = ("training",)
    compute = 1.0

    max_m: float = 0.5
    s: float = 30.0
    drw_start: float = 0.8
    beta: float = 0.9999

    def __post_init__(self) -> None:
        check_not_negative(self, "max_m")
        check_positive(self, "s")
        check_fraction(self, "drw_start")
        check_fraction(self, "beta", one=False)

    def network(self, spec: ModelSpec) -> Classified:
        """Return an untrained network with a cosine classifier."""
        return new_classified(open_backbone(spec.backbone), len(spec.classes), torch.Generator(), self.s)

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read scaled cosines as they are."""
        return Predictor(network, spec, rule="adjusted", home="uniform")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on all images, with margins first and with margins and weights then."""
        generator = problem.generator("classifier")
        network = new_classified(problem.backbone(), problem.counts.num_classes, generator, self.s)
        # s stands in the classifier, so the loss takes its logits as they come and margins on their scale.
        early, late = (LDAMLoss(problem.counts, max_m=self.s * self.max_m, s=1.0, beta=beta) for beta in (0, self.beta))
        objective = Deferred(network, early, late, self.drw_start)
        trained = engine.train("training", objective, problem.train).network
        return self.reads(trained, problem.spec(self))
