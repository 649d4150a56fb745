"""MAE: a vision transformer learns to fill in removed patches, then to classify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._masked_pretraining import check_pretraining, pretrained_and_tuned
from forktail.methods._method import Method, Problem
from forktail.methods._mixing import own_mix
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.mix import Mix


@final
@dataclass(frozen=True)
class MAE(Method):
    """Masked auto-encoding of the training images, then cross-entropy of mixed images and smoothed labels.

    Predicts argmax z, under the training prior. Vision transformers only, unless ``pretraining_epochs`` is 0 because
    the backbone's weights are pretrained already, by `forktail pretrain` or by others. The published mixing and layer
    decay suit photographs and large transformers; small pictures of characters often do better without.

    Args:
        pretraining_epochs: Length of the masked pretraining; None is eight times the plan's (800 to 100), 0 skips it.
        mask_ratio: Share of the patches that pretraining removes.
        mixup: alpha of mixup in fine-tuning, in place of the plan's; 0 is off.
        cutmix: alpha of CutMix in fine-tuning, in place of the plan's; 0 is off.
        smoothing: Of the labels in fine-tuning, in [0, 1), in place of the plan's.
        layer_decay: In fine-tuning each layer learns this factor slower than the one behind it; 1 treats all alike.
    """

    summary = "masked auto-encoding of the training images, then cross-entropy of mixed images; ViT only"
    source = "He et al. 2022 (MAE), sections 3 and 4, appendix A.1"
    stages = ("mae", "fine-tuning")
    compute = 5.0

    pretraining_epochs: int | None = None
    mask_ratio: float = 0.75
    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1
    layer_decay: float = 0.65

    def __post_init__(self) -> None:
        check_pretraining(self)
        self._mix()

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs that carry the training prior, and predict under it."""
        return Predictor(network, spec, rule="softmax", home="train")

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Pretrain, then fine-tune."""
        trained = pretrained_and_tuned(
            problem,
            engine,
            CrossEntropy,
            pretraining_epochs=self.pretraining_epochs,
            mask_ratio=self.mask_ratio,
            layer_decay=self.layer_decay,
            mix=self._mix(),
        )
        return self.reads(trained, problem.spec(self))

    def _mix(self) -> Mix:
        return own_mix(self.mixup, self.cutmix, self.smoothing)
