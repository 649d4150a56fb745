"""Where Stage 1 ended, as one network: the tasks' weights averaged by their curvature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from forktail.backbones.forked import Forked

FloatArray = npt.NDArray[np.float64]


@torch.no_grad()
def merge(
    network: Forked, specialists: Sequence[Forked], curvature: Sequence[FloatArray] | None, weights: Sequence[float]
) -> None:
    """Move a network of K tasks to the best common point of K networks of one task each.

    To second order, ``sum_t w_t loss_t`` of a shared parameter is least at the mean of the solutions theta_t weighted
    by ``w_t H_t`` (docs/theory, section 3, undamped and without the gradients that are left at the solutions):

        theta = sum_t w_t H_t theta_t / sum_t w_t H_t

    with the plain weighted mean where no task has curvature. Buffers of shared layers that are numbers, such as the
    statistics of batch norm, get the plain weighted mean. What the network does not share comes from its own task.

    Args:
        network: Changed in place; its shared depth is at least 1.
        specialists: One network per task.
        curvature: Of the stem and units 1..L: (K, d) H_t in the order of the layer's parameters; d = 0 for a stem that
            is frozen, which stays as it is. None takes the plain weighted mean throughout, which is the same number
            where all are frozen.
        weights: w, one per task.
    """
    top = network.max_depth + 1
    for index in range(top):
        sources = [specialist.layer(0, index) for specialist in specialists]
        if index <= network.depth:
            own = None if curvature is None else curvature[index]
            _merge_layer(network.layer(0, index), sources, own, np.asarray(weights))
        else:
            for task, source in enumerate(sources):
                network.layer(task, index).load_state_dict(source.state_dict())
    for task, specialist in enumerate(specialists):
        network.layer(task, top).load_state_dict(specialist.layer(0, top).state_dict())
        network.classifier(task).load_state_dict(specialist.classifier(0).state_dict())


def _merge_layer(
    layer: nn.Module, sources: Sequence[nn.Module], curvature: FloatArray | None, weights: FloatArray
) -> None:
    if curvature is None:
        curvature = np.zeros((len(sources), sum(parameter.numel() for parameter in layer.parameters())))
    if not curvature.shape[1]:
        return
    first = 0
    for target, *solutions in zip(layer.parameters(), *(source.parameters() for source in sources), strict=True):
        shares = torch.from_numpy(_shares(curvature[:, first : first + target.numel()], weights))
        stacked = torch.stack([solution.flatten().double() for solution in solutions])
        target.copy_((shares.to(stacked.device) * stacked).sum(0).view_as(target))
        first += target.numel()
    for target, *found in zip(layer.buffers(), *(source.buffers() for source in sources), strict=True):
        if target.is_floating_point():
            parts = [weight * buffer for weight, buffer in zip(weights.tolist(), found, strict=True)]
            target.copy_(torch.stack(parts).sum(0) / weights.sum())
        else:
            target.copy_(found[0])


def _shares(curvature: FloatArray, weights: FloatArray) -> FloatArray:
    """Return each task's share of every coordinate, (K, d), their sum 1."""
    weighted = weights[:, None] * curvature.astype(np.float64)
    total = weighted.sum(axis=0)
    plain = np.broadcast_to((weights / weights.sum())[:, None], weighted.shape).copy()
    np.divide(weighted, total, out=plain, where=total > 0)
    return plain
