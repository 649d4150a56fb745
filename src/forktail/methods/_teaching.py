"""Stages that also fit what the Stage-1 networks say of an image."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from forktail.backbones.forked import Forked
from forktail.methods._tasks import WeightedTasks
from forktail.training.objective import Batch, Objective, freeze


@final
class TaughtTasks(Objective):
    """sum_t w_t [(1 - a) BCE(y) + a BCE(q_t)], where q_t are the probabilities that task t's teacher gives.

    q_t = sigmoid of the teacher's logit under the same adjustment, on the very inputs of the batch, mixed ones too.
    Binary cross-entropy is linear in its targets, so it is taken once, of (1 - a) y + a q_t.

    Args:
        tasks: What is trained.
        teachers: One network of one task each; they are copied, frozen and stay in evaluation mode.
        share: a, in (0, 1].
    """

    def __init__(self, tasks: WeightedTasks, teachers: Sequence[Forked], share: float) -> None:
        super().__init__()
        self.tasks = tasks
        self.teachers = nn.ModuleList(copy.deepcopy(teacher) for teacher in teachers)
        self.share = share
        freeze(self.teachers)

    @property
    def network(self) -> Forked:
        """What is trained."""
        return self.tasks.network

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) weighted losses of a batch in nats."""
        targets = self.tasks.targets(batch.targets)
        with torch.no_grad():
            taught = [
                torch.lerp(target, torch.sigmoid(teacher(batch.inputs) + loss.get_buffer("adjustment")), self.share)
                for target, teacher, loss in zip(targets, self.teachers, self.tasks.losses, strict=True)
            ]
        return self.tasks.losses_of(self.network.task_scores(batch.inputs), taught)
