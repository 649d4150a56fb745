"""From networks and data to the moments that the criterion reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.fisher.per_image import Batch, GradientSums, NetworkSums, gradient_sums
from forktail.labels import TaskSplit
from forktail.losses._loss import Loss
from forktail.theory.moments import UnitMoments

FloatArray = npt.NDArray[np.float64]


class Moments(NamedTuple):
    """What the criterion reads of K Stage-1 networks.

    Args:
        units: L + 1 moments of K tasks: stem, units 1..L.
        decoders: K moments of one task: its readout and classifier.
        gradient_norms: ``(K,)``, norm of the mean gradient in nats per unit of parameter: zero at the optimum that the
            theory supposes.
    """

    units: list[UnitMoments]
    decoders: list[UnitMoments]
    gradient_norms: FloatArray


def moments(
    networks: Sequence[Forked],
    losses: Sequence[Loss],
    split: TaskSplit,
    starts: Sequence[Forked],
    batches: Iterable[Batch],
    chunk_size: int = 64,
) -> Moments:
    """Estimate curvature, score covariance, risk and position of K networks (docs/theory.md, section 2).

    The curvature is the empirical Fisher: squares of the gradients at the true labels.

    Args:
        networks: K networks of one task each, with the same backbone, at their solutions (Stage 1's).
        losses: K losses in nats, of the logits that are trained on.
        split: Which columns of the targets are task t's.
        starts: The same networks before training: their positions are measured from here.
        batches: ``(inputs, (B, C) float targets, (B,) weights or None)``: evaluation transform, unmixed images, all N.
            A weight is the evaluation prior over the training prior of the image's class.
        chunk_size: Images that pass through the networks at once.

    Returns:
        The moments, of every parameter.

    Raises:
        InputError: If there is no image, if networks are not alike, or if a parameter gets no gradient.
    """
    return moments_of_sums(gradient_sums(networks, losses, split, batches, chunk_size), networks, starts)


def moments_of_sums(sums: NetworkSums, networks: Sequence[Forked], starts: Sequence[Forked]) -> Moments:
    """Turn gradient sums, merged or not, into moments.

    With means over images: ``H_t = mean g_t^2``, ``S_tu = mean g_t g_u - mean g_t mean g_u``, and
    ``M_t = sum r g_t^2 / sum r``, equal to H_t without weights.

    Args:
        sums: Of these networks.
        networks: K networks at their solutions.
        starts: The same networks before training.

    Returns:
        The moments, of every parameter.

    Raises:
        InputError: If the weights of the images add up to nothing, or the starts are other networks.
    """
    if not sums.units[0].weight > 0:
        raise InputError(f"weights of the images that add up to {sums.units[0].weight}", expected="a positive sum")
    moved = [_moved(network, start) for network, start in zip(networks, starts, strict=True)]
    units = [_unit_moments(unit, np.stack([task[index] for task in moved])) for index, unit in enumerate(sums.units)]
    decoders = [_unit_moments(decoder, moved[task][-1][None]) for task, decoder in enumerate(sums.decoders)]
    return Moments(units, decoders, _gradient_norms(sums))


def _unit_moments(sums: GradientSums, position: FloatArray) -> UnitMoments:
    mean = sums.first / sums.images
    cross = sums.products / sums.images - mean[:, None] * mean[None]
    return UnitMoments(
        curvature=_diagonal(sums.products / sums.images),
        # A variance: below zero only by the rounding of the difference above.
        scores=_diagonal(cross).clip(min=0),
        risk=_array(sums.weighted / sums.weight),
        position=position,
        cross=_array(cross) if len(mean) > 1 else None,
    )


def _moved(network: Forked, start: Forked) -> list[FloatArray]:
    """Flatten, per layer of the chain and last for readout and classifier, solution minus initial weights."""
    ends, begins = _layers(network), _layers(start)
    try:
        return [_flat(end) - _flat(begin) for end, begin in zip(ends, begins, strict=True)]
    except ValueError as error:
        raise InputError(
            "starts that differ in shape from the networks", expected="the same before training"
        ) from error


def _layers(network: Forked) -> list[list[nn.Module]]:
    top = network.max_depth + 1
    return [*([network.layer(0, index)] for index in range(top)), [network.layer(0, top), network.classifier(0)]]


def _flat(modules: list[nn.Module]) -> FloatArray:
    return _array(torch.cat([p.detach().double().flatten() for module in modules for p in module.parameters()]))


def _gradient_norms(sums: NetworkSums) -> FloatArray:
    squares = [(unit.first / unit.images).square().sum(1) for unit in sums.units]
    own = [(decoder.first / decoder.images).square().sum() for decoder in sums.decoders]
    return _array((torch.stack(squares).sum(0) + torch.stack(own)).sqrt())


def _diagonal(pairs: Tensor) -> FloatArray:
    return _array(torch.stack([pairs[task, task] for task in range(len(pairs))]))


def _array(tensor: Tensor) -> FloatArray:
    return tensor.cpu().numpy()
