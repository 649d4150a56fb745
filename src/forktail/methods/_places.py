"""Where Fisher information is taken: at the Stage-1 solutions, half way between them, or where a Stage 2 ends."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch

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


def drift(shared: Forked, specialists: Sequence[Forked]) -> list[float | None]:
    """Say how far a Stage 2 ended from the Stage-1 solutions, layer by layer, in units of their own distance.

    With theta of Stage 2 and the solutions theta_A and theta_B, over the parameters of a layer,

        (|theta - theta_A|^2 + |theta - theta_B|^2) / |theta_A - theta_B|^2

    1/2 half way between them, 1 at either end, and more where Stage 2 went elsewhere, of which no criterion that looks
    at Stage 1 can know.

    Args:
        shared: The Stage-2 network.
        specialists: The Stage-1 networks of two tasks.

    Returns:
        One number for the stem and each unit that is shared; None for a layer without parameters, or where the
        solutions are the same.
    """
    return [_drift(shared, specialists, index) for index in range(shared.depth + 1)]


def _drift(shared: Forked, specialists: Sequence[Forked], index: int) -> float | None:
    here, *there = (
        [parameter.detach().double().cpu().flatten() for parameter in network.layer(0, index).parameters()]
        for network in (shared, *specialists)
    )
    if not here:
        return None
    theta, solutions = torch.cat(here), [torch.cat(one) for one in there]
    apart = float((solutions[0] - solutions[1]).square().sum())
    return sum(float((theta - one).square().sum()) for one in solutions) / apart if apart else None
