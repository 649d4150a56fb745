"""The mean of a measure over seeds, and how sure it is.

Seeds are the sample, never cells: all cells of a seed come from the same two Stage-1 networks and the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from scipy.special import stdtrit

from forktail.comparing.statistics import LEVEL, mean, standard_error
from forktail.errors import InputError
from forktail.grids.cells import ROUNDING
from forktail.labels import IntArray

Range = tuple[float, float]


class Interval(TypedDict):
    """A mean over seeds with two 95 % intervals; see `interval`."""

    mean: float | None
    low: float | None
    high: float | None
    bootstrap: list[float] | None


def resample(num_seeds: int, generator: np.random.Generator, draws: int = 10_000) -> IntArray:
    """Draw seeds with replacement, once for all measures, so that all see the same resampled seeds.

    Args:
        num_seeds: S.
        generator: Source of randomness.
        draws: Number R of resamples.

    Returns:
        (R, S) positions of seeds, 0 to S - 1.

    Raises:
        InputError: Less than one seed.

    Example:
        >>> resample(3, np.random.default_rng(0), draws=2)
        array([[2, 1, 1],
               [0, 0, 0]])
    """
    if num_seeds < 1:
        raise InputError(f"{num_seeds} seeds", expected="at least one")
    return generator.integers(num_seeds, size=(draws, num_seeds))


def interval(values: Sequence[float | None], resampled: IntArray, within: Range = (-np.inf, np.inf)) -> Interval:
    """Mean over seeds with its 95 % interval by Student's t, and by bootstrap over seeds.

    docs/grid.md. ``low`` and ``high`` are mean -+ t_{S-1} std / sqrt(S), cut to the range that the measure can have.
    ``bootstrap`` holds percentiles of the means of resampled seeds. Such a mean never leaves [min, max] of the S
    values, so that no interval of this kind can hold the centre of a symmetric distribution more often than
    1 - 2^(1-S): 75 % with three seeds, 94 % with five. This is why it stands beside the other one, not in its place.

    Args:
        values: (S,) one value per seed; None where a seed has none.
        resampled: (R, S) positions of seeds, of `resample`.
        within: Smallest and largest value that the measure can have.

    Returns:
        ``mean``, ``low``, ``high`` and ``bootstrap``. The intervals are None for a single seed and for equal values,
        in which chance did not show; all is None if a seed has no value.

    Raises:
        ValueError: Resamples of another number of seeds.

    Example:
        >>> found = interval([0.7, 0.8, 0.9], resample(3, np.random.default_rng(0)), within=(-1, 1))
        >>> [round(found[key], 3) for key in ("mean", "low", "high")], [round(end, 3) for end in found["bootstrap"]]
        ([0.8, 0.552, 1.0], [0.7, 0.9])
    """
    if resampled.shape[1] != len(values):
        raise ValueError(f"resamples of {resampled.shape[1]} seeds for {len(values)} values")
    center, error = mean(values), standard_error(values)
    if center is None or error is None or error <= ROUNDING * abs(center):
        return {"mean": center, "low": None, "high": None, "bootstrap": None}
    reach = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * error
    means = np.array(values, dtype=np.float64)[resampled].mean(axis=1)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return {
        "mean": center,
        "low": max(float(within[0]), center - reach),
        "high": min(float(within[1]), center + reach),
        "bootstrap": [float(end) for end in np.quantile(means, tails)],
    }
