"""From networks and data to the moments that the criterion reads."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.fisher.diagonal import Kind
from forktail.fisher.per_image import Batch, GradientSums, NetworkSums, gradient_sums_by_group, has_frozen_stem
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


class Positions(NamedTuple):
    """Where K solutions lie, measured from their common start.

    Args:
        units: L + 1 times ``(K, d)``.
        decoders: K times ``(1, d)``.
    """

    units: list[FloatArray]
    decoders: list[FloatArray]


@dataclass(frozen=True, eq=False)
class GroupedMoments:
    """Moments of all images, and what is needed to leave out one group of them.

    Args:
        whole: The moments of all images.
        groups: Sums of each group in float32, which is plenty for a standard error; empty if there are no groups.
    """

    whole: Moments
    groups: list[NetworkSums]

    @property
    def sizes(self) -> FloatArray:
        """``(G,)`` images of each group."""
        return np.array([group.units[0].images for group in self.groups], dtype=np.float64)

    def without(self, group: int) -> Moments:
        """Leave out one group. The others are added up: a difference would leave rounding where nothing is.

        Args:
            group: Its number.

        Returns:
            The moments of all other images, at the same positions.
        """
        others = (sums.to(torch.float64) for number, sums in enumerate(self.groups) if number != group)
        units, decoders = ([part.position for part in parts] for parts in (self.whole.units, self.whole.decoders))
        return moments_of_sums(functools.reduce(NetworkSums.merge, others), Positions(units, decoders))


def moments(
    networks: Sequence[Forked],
    losses: Sequence[Loss],
    split: TaskSplit,
    starts: Sequence[Forked],
    groups: Iterable[Iterable[Batch]],
    chunk_size: int = 64,
    *,
    kind: Kind = "empirical",
    seed: int = 0,
    solutions: Sequence[Forked] | None = None,
) -> GroupedMoments:
    """Estimate curvature, score covariance, risk and position of K networks (docs/theory.md, sections 2 and 14).

    Args:
        networks: K networks of one task each, with the same backbone, at their solutions (Stage 1's) or wherever the
            gradients are to be taken.
        losses: K losses in nats, of the logits that are trained on.
        split: Which columns of the targets are task t's.
        starts: The same networks before training: their positions are measured from here.
        groups: The batches of each group of images; one group is all there is, and leaves nothing to leave out.
            ``(inputs, (B, C) float targets, (B,) weights or None)``: evaluation transform, unmixed images, all N.
            A weight is the evaluation prior over the training prior of the image's class.
        chunk_size: Images that pass through the networks at once.
        kind: How curvature and risk are estimated, see `forktail.fisher.fisher`; scores are always those of the true
            labels.
        seed: Draws the labels of ``monte_carlo``.
        solutions: The networks whose positions count; None is ``networks``.

    Returns:
        The moments, of every parameter.

    Raises:
        InputError: If a group has no image, if networks are not alike, or if a parameter gets no gradient.
    """
    moved = positions(networks if solutions is None else solutions, starts)
    total: NetworkSums | None = None
    kept: list[NetworkSums] = []
    for sums in gradient_sums_by_group(networks, losses, split, groups, chunk_size, kind=kind, seed=seed):
        total = sums if total is None else total.merge(sums)
        kept.append(sums.to(torch.float32))
    if total is None:
        raise InputError("no group of images", expected="at least one")
    return GroupedMoments(moments_of_sums(total, moved), kept if len(kept) > 1 else [])


def moments_of_sums(sums: NetworkSums, moved: Positions) -> Moments:
    """Turn gradient sums, merged or not, into moments.

    With means over images: ``H_t = mean v_t``, where v_t is g_t^2 or what another Fisher puts in its place,
    ``S_tu = mean g_t g_u - mean g_t mean g_u``, and ``M_t = sum r v_t / sum r``, which is H_t without weights.

    Args:
        sums: Of some networks.
        moved: Their positions.

    Returns:
        The moments, of every parameter.

    Raises:
        InputError: If the weights of the images add up to nothing.
    """
    if not sums.units[0].weight > 0:
        raise InputError(f"weights of the images that add up to {sums.units[0].weight}", expected="a positive sum")
    units = [_unit_moments(unit, position) for unit, position in zip(sums.units, moved.units, strict=True)]
    decoders = [_unit_moments(own, position) for own, position in zip(sums.decoders, moved.decoders, strict=True)]
    return Moments(units, decoders, _gradient_norms(sums))


def positions(networks: Sequence[Forked], starts: Sequence[Forked]) -> Positions:
    """Subtract the initial weights from the solutions.

    Args:
        networks: K networks at their solutions.
        starts: The same networks before training.

    Returns:
        The positions.

    Raises:
        InputError: If the starts are other networks.
    """
    moved = [_moved(network, start) for network, start in zip(networks, starts, strict=True)]
    units = [np.stack(unit) for unit in zip(*(task[:-1] for task in moved), strict=True)]
    return Positions(units, [task[-1][None] for task in moved])


def _unit_moments(sums: GradientSums, position: FloatArray) -> UnitMoments:
    mean = sums.first / sums.images
    cross = sums.products / sums.images - mean[:, None] * mean[None]
    curvature = (
        _diagonal(sums.products) / sums.images if sums.curvature is None else _array(sums.curvature / sums.images)
    )
    return UnitMoments(
        curvature=curvature,
        # A variance: below zero only by the rounding of the difference above.
        scores=_diagonal(cross).clip(min=0),
        risk=curvature if sums.weighted is None else _array(sums.weighted / sums.weight),
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
    units = [[network.layer(0, index)] for index in range(1, top)]
    stem = [] if has_frozen_stem(network) else [network.layer(0, 0)]
    return [stem, *units, [network.layer(0, top), network.classifier(0)]]


def _flat(modules: list[nn.Module]) -> FloatArray:
    flat = [p.detach().double().flatten() for module in modules for p in module.parameters()]
    return _array(torch.cat(flat)) if flat else np.zeros(0)


def _gradient_norms(sums: NetworkSums) -> FloatArray:
    squares = [(unit.first / unit.images).square().sum(1) for unit in sums.units]
    own = [(decoder.first / decoder.images).square().sum() for decoder in sums.decoders]
    return _array((torch.stack(squares).sum(0) + torch.stack(own)).sqrt())


def _diagonal(pairs: Tensor) -> FloatArray:
    return _array(torch.stack([pairs[task, task] for task in range(len(pairs))]))


def _array(tensor: Tensor) -> FloatArray:
    return tensor.cpu().numpy()
