"""How far apart networks are, layer by layer, in units of another distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from torch import Tensor

from forktail.backbones.forked import Forked


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
    depth = shared.depth
    theta, (first, second) = _layers(shared, depth), [_layers(one, depth) for one in specialists]
    return _ratios(_squared(theta, first) + _squared(theta, second), _squared(first, second))


@dataclass(frozen=True)
class Separation:
    """How far apart head and tail went in Stage 1, in units of how far two trainings of one task do.

    Args:
        whole: Of the stem and all units together; None where they have no parameter that moved.
        layers: Of each of them.
        pairs: ``whole`` of every two of the trainings, whose scatter says how sure it is.
    """

    whole: float | None
    layers: list[float | None]
    pairs: list[float | None]


def separation(trainings: Sequence[Sequence[Forked]]) -> Separation:
    """Say how far apart head and tail go in Stage 1, in units of how far two trainings of one task do.

    Over pairs of *different* trainings i and j, whose chance is independent,

        mean |theta_A,i - theta_B,j|^2 / (mean |theta_A,i - theta_A,j|^2 / 2 + mean |theta_B,i - theta_B,j|^2 / 2)

    With theta_t,i = theta_t + noise of variance V_t the two means are unbiased for delta^2 + V_A + V_B and V_A + V_B,
    and the ratio is about 1 + delta^2 / (V_A + V_B): near 1, by chance also below, where the tasks are the same to
    training. delta grows with training in another way than V, so only figures of one recipe can be compared. The
    parameters of stem and units count, not readouts, classifiers and statistics of batch norm.

    Args:
        trainings: Of each training, at least two, the Stage-1 networks of head and tail, all from the same weights.

    Returns:
        It, of all layers together, of each layer and of each two trainings.

    Raises:
        ValueError: Fewer than two trainings.
    """
    if len(trainings) < 2:
        raise ValueError(f"{len(trainings)} training; expected two at least, which differ in their chance")
    heads, tails = ([_layers(networks[task], networks[task].depth) for networks in trainings] for task in range(2))
    whole, layers = _separation(heads, tails)
    pairs = [_separation([heads[i], heads[j]], [tails[i], tails[j]])[0] for i, j in combinations(range(len(heads)), 2)]
    return Separation(whole, layers, pairs)


def _separation(
    heads: Sequence[Sequence[Tensor]], tails: Sequence[Sequence[Tensor]]
) -> tuple[float | None, list[float | None]]:
    apart = _mean([_squared(heads[i], tails[j]) for i, j in permutations(range(len(heads)), 2)])
    alike = [_mean([_squared(one, other) for one, other in combinations(of, 2)]) for of in (heads, tails)]
    chance = (alike[0] + alike[1]) / 2
    (whole,) = _ratios(apart.sum()[None], chance.sum()[None])
    return whole, _ratios(apart, chance)


def _layers(network: Forked, depth: int) -> list[Tensor]:
    """Flatten the parameters of the stem and of each of the first units, in float64."""
    layers = [network.layer(0, index).parameters() for index in range(depth + 1)]
    return [torch.cat([torch.empty(0), *(one.detach().cpu().flatten() for one in layer)]).double() for layer in layers]


def _squared(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Squared distance of each layer."""
    return torch.stack([(a - b).square().sum() for a, b in zip(one, other, strict=True)])


def _mean(distances: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(distances)).mean(dim=0)


def _ratios(distances: Tensor, units: Tensor) -> list[float | None]:
    pairs = zip(distances.tolist(), units.tolist(), strict=True)
    return [distance / unit if unit else None for distance, unit in pairs]
