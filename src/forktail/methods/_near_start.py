"""Stage 1 held near the initial weights, as the damping of the criterion supposes."""

from __future__ import annotations

import copy
from typing import final

import torch
from torch import Tensor

from forktail.backbones.forked import Forked
from forktail.methods._tasks import WeightedTasks
from forktail.training.objective import Batch, Objective, freeze


@final
class NearStart(Objective):
    """A task's loss and ``lambda / 2 |theta - theta_0|^2``, theta all of its network but the classifier.

    Added to the mean loss per image, so that over N images it is the negative logarithm of a normal prior round the
    initial weights with precision N lambda, and lambda is in the units of the curvature of the mean loss: those of the
    criterion's ``damping`` (docs/theory, section 3). The plan's weight decay, towards zero, comes on top.

    Args:
        tasks: What is trained, not yet trained.
        decay: lambda > 0, in nats per squared unit of a parameter.
    """

    def __init__(self, tasks: WeightedTasks, decay: float) -> None:
        super().__init__()
        self.tasks = tasks
        self.decay = decay
        self.start = copy.deepcopy(tasks.network.path(0))
        freeze(self.start)

    @property
    def network(self) -> Forked:
        """What is trained."""
        return self.tasks.network

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats, the penalty in each."""
        losses: Tensor = self.tasks(batch)
        return losses + self.decay / 2 * self._squared_distance()

    def _squared_distance(self) -> Tensor:
        pairs = zip(self.network.path(0).parameters(), self.start.parameters(), strict=True)
        return torch.stack([(now - before).square().sum() for now, before in pairs]).sum()
