"""Mixup, CutMix and label smoothing of a batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import final

import torch
from torch.nn import functional as F

from forktail.errors import InputError
from forktail.training.objective import Batch


@final
@dataclass(frozen=True)
class Mix:
    """Blend the images of a batch in random pairs, and their targets with them (torchvision's MixUp and CutMix).

    One share lambda ~ Beta(alpha, alpha) serves a whole batch. Where both are on, each batch gets one of them, mixup
    and CutMix equally often. Smoothing comes last: ``(1 - s) t + s / C``, the true class included.

    Args:
        mixup: alpha of mixup (Zhang et al. 2018); 0 is off.
        cutmix: alpha of CutMix (Yun et al. 2019); 0 is off.
        smoothing: s, in [0, 1).

    Raises:
        InputError: If a number is out of range.

    Example:
        >>> Mix().active, Mix(mixup=0.8, cutmix=1.0).active
        (False, True)
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"plan.mix.{name} = {getattr(self, name)}", expected="a number >= 0; 0 is off")
        if not 0 <= self.smoothing < 1:
            raise InputError(f"plan.mix.smoothing = {self.smoothing}", expected="a share in [0, 1)")

    @property
    def active(self) -> bool:
        """Whether targets become soft."""
        return max(self.mixup, self.cutmix, self.smoothing) > 0

    def __call__(self, batch: Batch, num_classes: int) -> Batch:
        """Mix a batch; chance comes from torch's global generator, which the engine sets for every step.

        Args:
            batch: With (B,) class indices as targets.
            num_classes: C.

        Returns:
            The same batch, or one with mixed inputs and (B, C) soft targets.
        """
        if not self.active:
            return batch
        inputs, targets = batch.inputs, batch.targets
        if self.mixup or self.cutmix:
            inputs, targets = self._blended(inputs, targets, num_classes)
        else:
            dtype = inputs.dtype if inputs.is_floating_point() else torch.get_default_dtype()  # of texts: token numbers
            targets = F.one_hot(targets, num_classes).to(dtype)
        soft = (1 - self.smoothing) * targets + self.smoothing / num_classes
        return dataclasses.replace(batch, inputs=inputs, targets=soft)

    def _blended(
        self, inputs: torch.Tensor, targets: torch.Tensor, num_classes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from torchvision.transforms.v2 import CutMix, MixUp

        if inputs.ndim != 4:
            raise InputError(
                f"inputs of shape {tuple(inputs.shape)}",
                expected="(B, 3, H, W) pictures to mix",
                remedy="set mixup and cutmix to 0, in plan.mix or the method's own, for texts and for several views",
            )
        mixup = self.mixup and (not self.cutmix or torch.rand(()).item() < 0.5)
        blend = (
            MixUp(alpha=self.mixup, num_classes=num_classes)
            if mixup
            else CutMix(alpha=self.cutmix, num_classes=num_classes)
        )
        # torchvision pairs neighbours, and some samplers put images of one class, or views of one image, side by side.
        order = torch.randperm(len(inputs))
        back = order.argsort()
        mixed, soft = blend(inputs[order.to(inputs.device)], targets[order.to(targets.device)])
        return mixed[back.to(inputs.device)], soft[back.to(targets.device)]
