"""DeiT III fine-tuning: mixed images, smoothed or binary targets, every image several times in a batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor, nn
from torch.nn import functional as F

from forktail.backbones.forked import Forked
from forktail.backbones.open import open_backbone
from forktail.data.sampling import Repeated
from forktail.errors import InputError
from forktail.losses._loss import Loss
from forktail.losses.cross_entropy import CrossEntropy
from forktail.methods._method import Method, Problem
from forktail.methods._mixing import own_mix
from forktail.methods._ranges import check_choices, check_whole
from forktail.predictor import ModelSpec, Predictor
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.objective import Supervised


@final
@dataclass(frozen=True)
class DeiT3(Method):
    """Mixup, CutMix and repeated augmentation under cross-entropy of smoothed targets; predicts argmax z.

    With ``loss = "bce"`` (the authors' training from scratch) each class that a mixed image shows is a target of 1,
    however small its share, and the loss is a mean over classes. LayerScale and drop path belong to the backbone,
    colours and crops to the data, LAMB to the plan.

    Args:
        loss: ``ce`` on soft targets (their fine-tuning), or ``bce``.
        smoothing: Of the labels, in [0, 1); ``bce`` takes 0 only, since it would make every class a target.
        mixup: alpha of mixup, in place of the plan's; 0 is off.
        cutmix: alpha of CutMix, in place of the plan's; 0 is off.
        repeats: How often an image comes in its epoch (repeated augmentation), of which each shows N / repeats images.
    """

    summary = "mixup, CutMix, smoothing and repeated augmentation, without regard to the tail"
    source = "Touvron et al. 2022 (DeiT III), sections 3 and 4"
    stages = ("training",)
    compute = 1.0

    loss: Literal["ce", "bce"] = "ce"
    smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    repeats: int = 3

    def __post_init__(self) -> None:
        check_choices(self)
        check_whole(self, "repeats", least=1)
        self._mix()
        if self.loss == "bce" and self.smoothing:
            raise InputError(
                f'method.smoothing = {self.smoothing} with loss "bce", which would make every class a target',
                remedy="set method.smoothing = 0",
            )

    def network(self, spec: ModelSpec) -> Forked:
        """Return an untrained network of one task."""
        return Forked.single(open_backbone(spec.backbone), len(spec.classes))

    def reads(self, network: nn.Module, spec: ModelSpec) -> Predictor:
        """Read outputs that carry the training prior, and predict under it."""
        if self.loss == "ce":
            return Predictor(network, spec, rule="softmax", home="train")
        return Predictor(network, spec, rule="posterior", home="train", tau=0.0)

    def fit(self, problem: Problem, engine: Engine) -> Predictor:
        """Train one network on mixed images."""
        loss = CrossEntropy() if self.loss == "ce" else _PresenceLoss()
        plan = dataclasses.replace(engine.plan, mix=self._mix())
        objective = Supervised(problem.network(), loss)
        trained = engine.train("training", objective, problem.train, plan, Repeated(self.repeats)).network
        return self.reads(trained, problem.spec(self))

    def _mix(self) -> Mix:
        return own_mix(self.mixup, self.cutmix, self.smoothing)


def presence_bce(logits: Tensor, targets: Tensor) -> Tensor:
    r"""Binary cross-entropy against the classes that an image shows at all.

    Touvron et al. 2022, section 3: $\frac1C \sum_c \mathrm{BCE}(z_c, [t_c > 0])$.

    Args:
        logits: ``(B, C)``.
        targets: ``(B, C)`` shares of the classes in each image.

    Returns:
        ``(B,)`` losses in nats.

    Example:
        >>> import torch
        >>> mixed = torch.tensor([[0.9, 0.1, 0.0, 0.0]])
        >>> presence_bce(torch.tensor([[9.0, 9.0, -9.0, -9.0]]), mixed) < 1e-3
        tensor([True])
    """
    present = (targets > 0).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, present, reduction="none").mean(1)


@final
class _PresenceLoss(Loss):
    """`presence_bce` of hard or mixed targets."""

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        return presence_bce(logits, targets)
