"""The coupled criterion of the last units alone, for networks whose gradients are too many to be multiplied.

Legend: ``K`` tasks, ``W`` candidate weights, ``L`` units after the stem, ``k`` last units, ``m`` images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from forktail.theory.criterion import CriterionTable
from forktail.theory.gram import gram_table
from forktail.theory.moments import UnitMoments
from forktail.theory.refined import Assembly, Stage2
from forktail.theory.table import binned_table
from forktail.theory.unit_gram import UnitGram


def last_layers_table(
    early: Sequence[UnitMoments],
    units: Sequence[UnitGram],
    decoders: Sequence[UnitGram],
    *,
    weights: npt.ArrayLike,
    n: float,
    damping: float,
    assembly: Assembly = "refined",
    stage2: Stage2 = "shared",
    debiased: bool = True,
) -> CriterionTable:
    """Predict the excess risk of every depth and weight, with the coupling among the last units and decoders alone.

    docs/validation.md, section 6. Two parts add up: the ``general`` reading of `binned_table` for the early units, and
    `gram_table` of a network that starts behind them. The assumption is about curvature only: H has no entry between
    an early unit and anything else, nor between two parameters of early units. Then this is exact, whatever S is. What
    it leaves out is what later layers could make good of a step of the early ones: of the depths before the last k
    units it says what the diagonal criterion says, up to a constant.

    Args:
        early: The stem and units 1..L-k, each of K tasks. Empty: all units are coupled, and this is `gram_table`.
        units: The last k units; with the stem before them if ``early`` is empty.
        decoders: For each task readout and classifier, of one task each.
        weights: (W, K) candidate weights, each row >= 0 and summing to 1.
        n: Number of images that the tasks were trained on.
        damping: lambda > 0, for all parameters.
        assembly: ``refined`` or ``raw``, as in `gram_table`.
        stage2: ``shared`` or ``whole``, as in `gram_table`.
        debiased: Subtract the sampling noise of the measured positions.

    Returns:
        The table; its reading is the assembly, and the number of units that are coupled unless all are.

    Raises:
        InputError: As `gram_table` and `binned_table`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> gradients, position = rng.normal(size=(2, 4, 9)), 0.1 * rng.normal(size=(2, 9))
        >>> early = UnitMoments(*[np.mean(gradients**2, axis=1)] * 3, position)
        >>> unit = UnitGram.of(gradients, position)
        >>> decoders = [UnitGram.of(gradients[t : t + 1], position[t : t + 1]) for t in (0, 1)]
        >>> table = last_layers_table([early] * 2, [unit], decoders, weights=[[0.5, 0.5]], n=4, damping=1.0)
        >>> table.reading, table.total.shape
        ('refined, last 1 units', (3, 1))
    """
    options = {"weights": weights, "damping": damping, "debiased": debiased}
    if not early:
        return gram_table(units, decoders, n=n, assembly=assembly, stage2=stage2, **options)  # type: ignore[arg-type]
    late = gram_table([_nothing(decoders), *units], decoders, n=n, assembly=assembly, stage2=stage2, **options)  # type: ignore[arg-type]
    none = UnitMoments(*[np.zeros((1, 0))] * 4)
    tasks = len(decoders)
    first = binned_table(early, [none] * tasks, n=[n] * tasks, reading="general", **options)  # type: ignore[arg-type]
    depths, last = np.arange(len(early) + len(units)), len(early) - 1
    before, behind = np.minimum(depths, last), np.maximum(depths - last, 0)
    return replace(
        first,
        shared_variance=first.shared_variance[before] + late.shared_variance[behind],
        shared_bias=first.shared_bias[before] + late.shared_bias[behind],
        own_variance=first.own_variance[before] + late.own_variance[behind],
        reading=f"{assembly}, last {len(units)} units",
        bound=None if first.bound is None else first.bound[before],
        term_bound=None if first.term_bound is None else first.term_bound[before],
    )


def _nothing(decoders: Sequence[UnitGram]) -> UnitGram:
    """A stem without coordinates, which is shared together with the first of the last units."""
    tasks, images = len(decoders), decoders[0].gradients.shape[-1]
    return UnitGram(
        np.zeros((tasks, tasks, images, images)), np.zeros((tasks, tasks, images)), np.zeros((tasks, tasks))
    )
