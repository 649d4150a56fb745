"""Weights averaged along the end of a stage."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from forktail.methods._tasks import WeightedTasks
from forktail.methods._teaching import TaughtTasks
from forktail.training.objective import Batch, Objective, Supervised, freeze


@final
class Averaged(Objective):
    """An objective, and beside it the mean of its network's weights after each of a stage's last steps.

    Stochastic weight averaging (Izmailov et al. 2018) under the plan's own schedule. The objective trains as it would
    alone. Statistics of batch norm are those of the last step, not of the mean weights, and have to be measured anew.

    Args:
        objective: What is trained, not yet trained.
        share: Share of the stage's steps that count, in (0, 1]; less than one step is none.
    """

    def __init__(self, objective: WeightedTasks | TaughtTasks | Supervised, share: float) -> None:
        super().__init__()
        self.objective = objective
        self.share = share
        self.mean = AveragedModel(objective.network)
        freeze(self.mean)
        self._counts = False

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) losses of a batch in nats."""
        self._counts = batch.progress >= 1 - self.share
        losses: Tensor = self.objective(batch)
        return losses

    def after_step(self) -> None:
        """Count the step's weights in, if it is one of the last."""
        self.objective.after_step()
        if self._counts:
            self.mean.update_parameters(self.objective.network)

    def take_mean(self) -> bool:
        """Put the mean in the place of the last step's weights; where no step is among the last, these stay.

        Returns:
            Whether there is a mean.
        """
        counted = bool(self.mean.n_averaged > 0)
        if counted:
            self.objective.network.load_state_dict(self.mean.module.state_dict())
        return counted
