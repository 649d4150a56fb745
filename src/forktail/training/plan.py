"""How a stage is optimised: optimiser, schedule, batch size and length."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler
from timm.scheduler.multistep_lr import MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from forktail.errors import InputError
from forktail.training.mix import Mix


@dataclass(frozen=True)
class Plan:
    """Optimiser and schedule of a stage; a method's stages differ in their number of epochs alone.

    Args:
        epochs: Passes over the training images.
        batch_size: Images per step; a smaller training set is one batch.
        optimizer: ``adamw``, ``sgd`` (momentum 0.9) or ``lamb``, as timm builds them.
        lr: Peak learning rate.
        schedule: ``cosine`` decay to ``min_lr``, or ``step``: times ``decay`` at each of the ``milestones``.
        min_lr: Learning rate at the end of ``cosine``.
        milestones: Of ``step``: shares of the stage that are done when the learning rate falls.
        decay: Of ``step``: what the learning rate is multiplied by.
        warmup: Share of the steps with a linearly rising learning rate, in [0, 1).
        weight_decay: On matrices and kernels, not on biases, norms, tokens and position embeddings.
        layer_decay: Each layer of a backbone learns this factor slower than the one behind it; 1 treats all alike.
        betas: Moment decay rates of an Adam-type optimiser.
        clip: Largest norm of the gradient; 0 does not clip.
        mix: Mixup, CutMix and label smoothing.
        flops: Train as long as this many floating-point operations allow, in place of ``epochs``. A method with
            several stages divides them in proportion to what its epochs would cost.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: Literal["adamw", "sgd", "lamb"] = "adamw"
    lr: float = 1e-3
    schedule: Literal["cosine", "step"] = "cosine"
    min_lr: float = 1e-6
    milestones: tuple[float, ...] = (0.8, 0.9)
    decay: float = 0.1
    warmup: float = 0.1
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    mix: Mix = field(default_factory=Mix)
    flops: float | None = None

    def __post_init__(self) -> None:
        checks = {
            "epochs": (self.epochs >= 0, "a whole number >= 0"),
            "batch_size": (self.batch_size >= 1, "a whole number >= 1"),
            "lr": (0 < self.lr <= 1000, "a number > 0 and <= 1000, such as 0.001"),
            "min_lr": (0 <= self.min_lr <= self.lr, "a number between 0 and lr"),
            "warmup": (0 <= self.warmup < 1, "a share in [0, 1)"),
            "milestones": (
                all(0 < share < 1 for share in self.milestones) and list(self.milestones) == sorted(self.milestones),
                "rising shares of the stage, each inside (0, 1)",
            ),
            "decay": (0 < self.decay <= 1, "a factor in (0, 1]"),
            "layer_decay": (0 < self.layer_decay <= 1, "a factor in (0, 1]"),
            "weight_decay": (0 <= self.weight_decay <= 1000, "a number from 0 to 1000, such as 0.05"),
            "betas": (all(0 <= beta < 1 for beta in self.betas), "two numbers in [0, 1)"),
            "clip": (0 <= self.clip < float("inf"), "a number >= 0; 0 does not clip"),
            "flops": (self.flops is None or 0 < self.flops < float("inf"), "a number > 0"),
        }
        for name, (holds, expected) in checks.items():
            if not holds:
                raise InputError(f"plan.{name} = {getattr(self, name)}", expected=expected)

    def for_epochs(self, epochs: int) -> Plan:
        """Return the same plan with another length.

        Args:
            epochs: Passes over the training images.

        Returns:
            A new plan.

        Example:
            >>> Plan(epochs=10).for_epochs(3).epochs
            3
        """
        return dataclasses.replace(self, epochs=epochs, flops=None)

    @property
    def optimizer_tensors(self) -> int:
        """How many tensors the optimiser keeps for each that it trains."""
        return 1 if self.optimizer == "sgd" else 2

    def steps_per_epoch(self, num_images: int) -> int:
        """Count the full batches in one pass; what is left over waits for the next pass's shuffle.

        Args:
            num_images: Number of training images.

        Returns:
            At least 1.

        Example:
            >>> Plan(batch_size=128).steps_per_epoch(4311), Plan(batch_size=128).steps_per_epoch(5)
            (33, 1)
        """
        return max(1, num_images // self.batch_size)

    def make_optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """Build the optimiser over the parameters that are trained.

        Args:
            module: The objective.

        Returns:
            A fresh optimiser.
        """
        moments = {"momentum": 0.9} if self.optimizer == "sgd" else {"betas": self.betas}
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            module,
            opt="momentum" if self.optimizer == "sgd" else self.optimizer,  # timm's "sgd" is Nesterov's
            lr=self.lr,
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay if self.layer_decay < 1 else None,
            **moments,
        )
        return optimizer

    def make_schedule(self, optimizer: torch.optim.Optimizer, steps: int) -> Scheduler:
        """Build the schedule; the learning rate is a function of the step alone, so a resumed run needs no state.

        Args:
            optimizer: The optimiser to drive.
            steps: Length of the stage.

        Returns:
            A schedule to be called with ``step_update(step)`` before each step.
        """
        warmup = int(self.warmup * steps)
        start = self.lr / max(1, warmup)
        if self.schedule == "step":
            falls = [math.ceil(share * steps) + 1 for share in self.milestones]  # timm's fall one step before
            return MultiStepLRScheduler(
                optimizer,
                decay_t=falls,
                decay_rate=self.decay,
                warmup_t=warmup,
                warmup_lr_init=start,
                warmup_prefix=False,
                t_in_epochs=False,
            )
        return CosineLRScheduler(
            optimizer,
            t_initial=max(2, steps - warmup),  # timm complains of a cosine over one step
            lr_min=self.min_lr,
            warmup_t=warmup,
            warmup_lr_init=start,
            warmup_prefix=True,
            t_in_epochs=False,
        )
