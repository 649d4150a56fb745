"""LiVT: masked generative pretraining on the long-tailed images, then balanced binary cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.losses.balanced_bce import BalancedBCE
from forktail.methods._masked_pretraining import check_pretraining, pretrained_and_tuned
from forktail.methods._method import Method, Problem
from forktail.methods._mixing import own_mix
from forktail.methods._ranges import check_choices, check_not_negative
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.mix import Mix


@final
@dataclass(frozen=True)
class LiVT(Method):
    """Masked pretraining, then binary cross-entropy of z + tau (log pi - log(1 - pi)) on mixed images.

    Its first stage is that of ``mae``, trained once where both run in one comparison. Vision transformers only, unless
    ``pretraining_epochs`` is 0. ``balanced_bce`` is its objective alone.

    Args:
        pretraining_epochs: Length of the masked pretraining; None is eight times the plan's (800 to 100), 0 skips it.
        mask_ratio: Share of the patches that pretraining removes.
        tau: Strength of the adjustment. The released code ignores its own setting of it and trains at 1.
        rule: How outputs become predictions: ``margin`` is theirs, argmax z, which still favours the head;
            ``posterior`` is exact (docs/theory, section 11).
        mixup: alpha of mixup in fine-tuning, in place of the plan's; 0 is off.
        cutmix: alpha of CutMix in fine-tuning, in place of the plan's; 0 is off.
        smoothing: Of the labels in fine-tuning, in [0, 1), in place of the plan's. They ran 0 on iNaturalist.
        layer_decay: In fine-tuning each layer learns this factor slower than the one behind it; 1 treats all alike.
            They ran .65 on iNaturalist.
    """

    summary = "masked pretraining on the long tail, then binary cross-entropy with adjusted logits; ViT only"
    source = "Xu et al. 2023 (LiVT), Algorithm 1; settings of its ImageNet-LT runs"
    stages = ("mae", "fine-tuning")
    compute = 5.0

    pretraining_epochs: int | None = None
    mask_ratio: float = 0.75
    tau: float = 1.0
    rule: Literal["margin", "posterior"] = "margin"
    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1
    layer_decay: float = 0.75

    def __post_init__(self) -> None:
        check_choices(self)
        check_not_negative(self, "tau")
        check_pretraining(self)
        self._mix()

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read Bernoulli logits by the rule, under a uniform prior."""
        return Predictor(network, spec, rule=self.rule, home="uniform", tau=self.tau)

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Pretrain, then fine-tune."""
        trained = pretrained_and_tuned(
            problem,
            engine,
            lambda: BalancedBCE(problem.counts, tau=self.tau),
            pretraining_epochs=self.pretraining_epochs,
            mask_ratio=self.mask_ratio,
            layer_decay=self.layer_decay,
            mix=self._mix(),
        )
        return self.reads(trained, problem.spec(self))

    def _mix(self) -> Mix:
        return own_mix(self.mixup, self.cutmix, self.smoothing)
