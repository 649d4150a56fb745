"""What is trained, saved, moved and resumed, as one module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from forktail.losses._loss import Loss


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    Args:
        inputs: (B, 3, H, W) transformed pictures.
        targets: (B,) class indices or (B, C) soft targets.
        index: (B,) positions of the images in the training set.
        progress: Share of the stage that is done, in [0, 1).
        generator: The step's own generator, for an objective that draws at random.
    """

    inputs: Tensor
    targets: Tensor
    index: Tensor
    progress: float
    generator: torch.Generator


class Objective(nn.Module, ABC):
    """Everything that a stage trains, as one module: networks, losses, queues, teachers.

    State that must survive a kill is a parameter or a persistent buffer. Plain settings appear in ``extra_repr``,
    because the stage's fingerprint is taken from the module's ``repr`` and its state.
    """

    revision: ClassVar[int] = 1  # raise it when the meaning of the objective changes: stored stages are then retrained

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""

    def after_step(self) -> None:
        """Follow an optimiser step: moving averages, momentum copies, queues."""

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that its modules exempt from weight decay, such as timm's position embeddings.

        Returns:
            Parameter names; timm's optimiser factory asks for them.
        """
        exempt: set[str] = set()
        for prefix, module in self.named_modules():
            names = getattr(module, "no_weight_decay", None)
            if module is not self and callable(names):
                exempt |= {f"{prefix}.{name}" for name in names()}
        return exempt


@final
class Supervised(Objective):
    """A network and a per-image loss on its outputs.

    Args:
        network: Maps (B, 3, H, W) inputs to (B, C) logits.
        loss: Maps logits and targets to (B,) losses.
    """

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""
        losses: Tensor = self.loss(self.network(batch.inputs), batch.targets)
        return losses


def freeze(module: nn.Module, norm: Literal["eval", "track"] = "eval") -> None:
    """Stop training a module; the one place that does so.

    Args:
        module: Its parameters stop receiving gradients and its dropout is switched off.
        norm: ``eval`` keeps the statistics of normalisation layers, ``track`` lets them follow the data.
    """
    module.requires_grad_(False)
    for child in module.modules():
        child.forktail_frozen = norm  # type: ignore[assignment] # read by `set_modes`, copied with the module


def set_modes(objective: nn.Module) -> None:
    """Put a module in training mode, except what `freeze` has frozen.

    Args:
        objective: The module.
    """
    objective.train()
    for child in objective.modules():
        norm = getattr(child, "forktail_frozen", None)
        if norm is not None:
            child.training = norm == "track" and isinstance(child, nn.modules.batchnorm._NormBase)
