"""Head and tail as two tasks: their losses, and networks that are trained on one of them alone (Stage 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.labels import TaskSplit
from forktail.losses.balanced_bce import BalancedBCE
from forktail.methods._method import Problem
from forktail.training.objective import Batch, Objective

TASKS = ("head", "tail")


def check_two_tasks(problem: Problem, name: str) -> None:
    """Refuse a split that is not into head and tail.

    Args:
        problem: The problem.
        name: The method's name.

    Raises:
        InputError: If there are not two tasks.
    """
    if problem.split.num_tasks != len(TASKS):
        raise InputError(
            f"split has {problem.split.num_tasks} tasks", expected=f"two for {name}", remedy="use split.parts = 2"
        )


def task_losses(problem: Problem, tau: float) -> list[BalancedBCE]:
    """Return each task's summed BCE of its classes, adjusted by their share of all images (eqs. 8, 9).

    Args:
        problem: The problem.
        tau: Strength of the logit adjustment.

    Returns:
        One loss per task.
    """
    return [BalancedBCE(problem.counts, tau=tau, classes=classes) for classes in problem.split.tasks]


def specialist(problem: Problem, task: int, tau: float) -> WeightedTasks:
    """Return what Stage 1 trains: a full network of one task, from the initial weights (eq. 14).

    Args:
        problem: The problem.
        task: Number of the task.
        tau: Strength of the logit adjustment.

    Returns:
        The objective, untrained.
    """
    classes = problem.split.tasks[task]
    network = problem.network(TaskSplit.single(len(classes)))
    return WeightedTasks(network, [task_losses(problem, tau)[task]], [classes], [1.0])


@final
class WeightedTasks(Objective):
    """sum_t w_t L_t of a network's tasks, each the summed BCE of its own classes (eqs. 8 and 14).

    Args:
        network: A network with one output group per task.
        losses: One loss per task.
        tasks: The classes of each task, as columns of the one-hot targets of all classes.
        weights: One weight per task.
    """

    weights: Tensor

    def __init__(
        self,
        network: Forked,
        losses: Sequence[BalancedBCE],
        tasks: Sequence[npt.NDArray[np.int64]],
        weights: Sequence[float],
    ) -> None:
        super().__init__()
        self.network = network
        self.losses = nn.ModuleList(losses)
        self.register_buffer("weights", torch.tensor(weights))
        for number, classes in enumerate(tasks):
            self.register_buffer(f"classes{number}", torch.tensor(classes.tolist()))

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) weighted losses of a batch in nats."""
        return self.losses_of(self.network.task_scores(batch.inputs), self.targets(batch.targets))

    def losses_of(self, scores: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Weigh and add the tasks' losses.

        Args:
            scores: K times (B, C_t) logits.
            targets: K times (B, C_t).

        Returns:
            (B,) losses in nats.
        """
        losses = [loss(z, target) for z, target, loss in zip(scores, targets, self.losses, strict=True)]
        return torch.stack(losses, dim=1) @ self.weights

    def targets(self, targets: Tensor) -> list[Tensor]:
        """Cut the targets into those of the tasks; an image of another task is a row of zeros.

        Args:
            targets: (B,) classes, or (B, C) soft targets of all classes.

        Returns:
            K times (B, C_t).
        """
        return [self._targets(targets, task) for task in range(len(self.losses))]

    def _targets(self, targets: Tensor, task: int) -> Tensor:
        classes: Tensor = self.get_buffer(f"classes{task}")
        if targets.is_floating_point():
            return targets[:, classes]
        return (targets.unsqueeze(1) == classes).to(self.weights.dtype)
