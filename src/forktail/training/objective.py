"""What is trained, saved, moved and resumed, as one module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, final

import torch
from torch import Tensor, nn

from forktail.losses._loss import Loss


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    Args:
        inputs: (B, 3, H, W) transformed pictures, or (B, V, 3, H, W) where the transform makes V views of each.
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

    needs_classes: ClassVar[bool] = False  # whether every image must have one class: mixing is then refused
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

    def group_matcher(self, coarse: bool = False) -> Callable[[str], float]:
        """Say how deep each parameter lies, for layer-wise decay; what stands on a backbone counts as its readout.

        Args:
            coarse: Ignored; timm's optimiser factory passes it.

        Returns:
            Chain index by parameter name.
        """
        chains = [
            (f"{prefix}.", module)
            for prefix, module in self.named_modules()
            if callable(getattr(module, "unit_of", None))
        ]

        def known(name: str) -> int | None:
            for prefix, module in chains:
                if name.startswith(prefix):
                    index: int = module.unit_of(name.removeprefix(prefix))
                    return index
            return None

        last = max((index for name, _ in self.named_parameters() if (index := known(name)) is not None), default=0)
        return lambda name: last if (index := known(name)) is None else index


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


@final
class Deferred(Objective):
    """A network whose loss is exchanged for a re-weighted one when most of the training is done (DRW, Cao et al. 2019).

    Args:
        network: Maps (B, 3, H, W) inputs to (B, C) logits.
        early: The loss at first.
        late: The loss afterwards; with class weights w, a batch counts as ``sum_i w_i l_i / sum_i w_i``, as in the
            authors' code.
        start: Share of the stage that is done when ``late`` takes over, in [0, 1].
    """

    def __init__(self, network: nn.Module, early: Loss, late: WeightedLoss, start: float) -> None:
        super().__init__()
        self.network = network
        self.early = early
        self.late = late
        self.start = start

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""
        outputs = self.network(batch.inputs)
        if batch.progress < self.start:
            early: Tensor = self.early(outputs, batch.targets)
            return early
        return weighted_mean(self.late, outputs, batch.targets)


class WeightedLoss(Protocol):
    """A loss that weighs each image by its class, such as `ClassBalanced`."""

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the (B,) losses, each times its image's weight."""
        ...

    def image_weights(self, targets: Tensor) -> Tensor:
        """Return the (B,) weights."""
        ...


def weighted_mean(loss: WeightedLoss, logits: Tensor, targets: Tensor) -> Tensor:
    """Scale a batch's weighted losses so that their plain mean is ``sum_i w_i l_i / sum_i w_i``.

    Args:
        loss: A loss with class weights.
        logits: (B, C).
        targets: (B,) classes or (B, C) soft targets.

    Returns:
        (B,) losses; they depend on which classes are in the batch.
    """
    return loss(logits, targets) * len(logits) / loss.image_weights(targets).sum()


def freeze(module: nn.Module, norm: Literal["eval", "track", "fixed"] = "eval") -> None:
    """Stop training a module; the one place that does so.

    Args:
        module: Its parameters stop receiving gradients and its dropout is switched off.
        norm: ``eval`` keeps the statistics of normalisation layers, ``track`` lets them follow the data, ``fixed``
            keeps them whoever freezes them again or measures them anew.
    """
    module.requires_grad_(False)
    for child in module.modules():
        if getattr(child, "forktail_frozen", None) != "fixed":  # a stem computed once must stay what was computed
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
