"""The coupled criterion of real networks, from networks and data to the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy.typing as npt

from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.fisher.gram import BatchesOf, IntArray, grams
from forktail.labels import TaskSplit
from forktail.losses._loss import Loss
from forktail.theory.criterion import CriterionTable
from forktail.theory.last_layers import last_layers_table
from forktail.theory.moments import UnitMoments
from forktail.theory.refined import Assembly, Stage2


class Coupled(NamedTuple):
    """The coupled criterion, and what it was computed from.

    Args:
        table: The criterion; its reading says how much is coupled.
        images: (m,) the numbers of the images whose gradients were multiplied.
    """

    table: CriterionTable
    images: IntArray


def refined_criterion(
    networks: Sequence[Forked],
    losses: Sequence[Loss],
    split: TaskSplit,
    starts: Sequence[Forked],
    batches: BatchesOf,
    labels: npt.ArrayLike,
    *,
    weights: npt.ArrayLike,
    n: float,
    damping: float,
    assembly: Assembly = "refined",
    stage2: Stage2 = "shared",
    debiased: bool = True,
    layers: int | None = None,
    units: Sequence[UnitMoments] = (),
    images: int | None = None,
    seed: int = 0,
    chunk_size: int = 64,
) -> Coupled:
    """Predict the excess risk of every depth and weight after refinement, K_ref, or of the raw assembly, K_raw.

    docs/validation.md, sections 5 and 6: exact for the empirical Fisher of the images, or, with ``layers``, with the
    coupling among the last units and the decoders alone.

    Args:
        networks: K networks of one task each, with the same backbone, at their solutions (Stage 1's).
        losses: K losses in nats, of the logits that are trained on.
        split: Which columns of the targets are task t's.
        starts: The same networks before training.
        batches: As `forktail.fisher.gram.grams` takes them.
        labels: (N,) class of every image.
        weights: (W, K) candidate weights, each row >= 0 and summing to 1.
        n: Number of images that the tasks were trained on.
        damping: lambda > 0, for every parameter.
        assembly: Decoders fitted again to the shared encoder (``refined``), or as they come from Stage 1 (``raw``).
        stage2: Whether Stage 2 shares only the encoder (``shared``) or the ``whole`` trunk, later cut at s.
        debiased: Subtract the sampling noise of the measured positions.
        layers: The number of last units whose coupling counts; None: all.
        units: What `forktail.fisher.moments` found of the stem and units 1..L; only read where ``layers`` leaves some
            out.
        images: How many images to use, as in `grams`, which may use fewer than there are unasked.
        seed: Of the sample of images.
        chunk_size: Images that pass through the networks at once.

    Returns:
        The table, and the images that it is of.

    Raises:
        InputError: As `grams` and `last_layers_table`, or if the moments of the early units are missing.
    """
    found = grams(
        networks, losses, split, starts, batches, labels, images=images, layers=layers, seed=seed, chunk_size=chunk_size
    )
    depth = networks[0].max_depth
    num_early = depth + 1 - len(found.units)
    if num_early and len(units) != depth + 1:
        raise InputError(
            f"moments of {len(units)} units", expected=f"{depth + 1}, the stem and all units, as layers = {layers}"
        )
    table = last_layers_table(
        units[:num_early],
        found.units,
        found.decoders,
        weights=weights,
        n=n,
        damping=damping,
        assembly=assembly,
        stage2=stage2,
        debiased=debiased,
    )
    return Coupled(table, found.images)
