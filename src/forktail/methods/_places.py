"""Where Fisher information is taken: at the Stage-1 solutions, half way between them, or where a Stage 2 ends."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal, TypeAlias

from forktail.backbones.forked import Forked

Place: TypeAlias = Literal["stage1", "midpoint", "stage2"]


def one_each(joint: Forked, specialists: Sequence[Forked]) -> list[Forked]:
    """Take a network of K tasks apart, into one network for each task with all that this task passes through.

    Args:
        joint: Of K tasks.
        specialists: One network per task, which say what such a network is; they stay as they are.

    Returns:
        K networks with the weights of ``joint``.
    """
    alone = [copy.deepcopy(specialist) for specialist in specialists]
    for task, network in enumerate(alone):
        for index in range(network.max_depth + 2):
            network.layer(0, index).load_state_dict(joint.layer(task, index).state_dict())
        network.classifier(0).load_state_dict(joint.classifier(task).state_dict())
    return alone
