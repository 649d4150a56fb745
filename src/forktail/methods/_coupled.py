"""The readings ``refined`` and ``raw``: the criterion with encoder and decoders coupled, computed once and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import numpy.typing as npt

from forktail.backbones.forked import Forked
from forktail.fisher.coupled import refined_criterion
from forktail.fisher.gram import WORK
from forktail.fisher.per_image import Batch
from forktail.labels import TaskSplit
from forktail.methods._moments import Measurement
from forktail.methods._tasks import TASKS, specialist, task_losses
from forktail.theory import CriterionTable, UnitMoments
from forktail.training.engine import Arrays
from forktail.training.randomness import seed_of


@final
@dataclass(frozen=True)
class CoupledCriterion:
    """K_ref or K_raw at the Stage-1 solutions (docs/validation, sections 5 and 6).

    Args:
        measurement: Of the diagonal moments; its images, losses and engine are used.
        assembly: Decoders fitted again to the shared encoder (``refined``), or as they come (``raw``).
        stage2: Whether Stage 2 shares the ``whole`` trunk or only what is ``shared``.
        debiased: Subtract the sampling noise of the measured positions.
        units: How many of the last units are coupled; None for all.
        images: How many images are used; None for as many as a minute allows.
    """

    measurement: Measurement
    assembly: Literal["refined", "raw"]
    stage2: Literal["shared", "whole"]
    debiased: bool
    units: int | None
    images: int | None

    def of(
        self,
        specialists: Sequence[Forked],
        measured: Sequence[UnitMoments],
        weights: npt.NDArray[np.float64],
        damping: float,
    ) -> tuple[CriterionTable, npt.NDArray[np.int64]]:
        """Compute the table, or load what the very same networks and images gave.

        Args:
            specialists: The Stage-1 networks.
            measured: Their diagonal moments, the stem and units 1..L.
            weights: (W, K) candidate weights.
            damping: lambda > 0.

        Returns:
            The table, and the numbers of the images that it is of.
        """
        engine = self.measurement.engine
        arguments = (self.assembly, self.stage2, self.debiased, self.units, self.images, damping, weights.tolist())
        inputs = [*arguments, engine.seed, *self.measurement.inputs(specialists)]
        found = engine.keep(
            "coupled",
            inputs,
            lambda: self._compute(specialists, measured, weights, damping),
            flops=lambda arrays: self._flops(len(arrays["images"])),
        )
        table = CriterionTable(
            weights=weights,
            shared_variance=found["shared_variance"],
            shared_bias=found["shared_bias"],
            own_variance=found["own_variance"],
            reading=found["reading"].tobytes().decode(),
            debiased=self.debiased,
            damping=damping,
            flat=found["flat"].item(),
        )
        return table, found["images"]

    def most_flops(self) -> float:
        """Bound what `of` takes.

        Returns:
            Floating-point operations of all inner products.
        """
        if self.images is not None:
            return self._flops(self.images)
        return min(self._flops(self.measurement.problem.counts.total), WORK)

    def _flops(self, images: int) -> float:
        """(K m)^2 P: half of the products, each a multiplication and an addition."""
        problem = self.measurement.problem
        coordinates = max(
            sum(p.numel() for p in specialist(problem, task, self.measurement.tau).network.parameters())
            for task in range(len(TASKS))
        )
        return float((len(TASKS) * images) ** 2 * coordinates)

    def _compute(
        self,
        specialists: Sequence[Forked],
        measured: Sequence[UnitMoments],
        weights: npt.NDArray[np.float64],
        damping: float,
    ) -> Arrays:
        problem, engine = self.measurement.problem, self.measurement.engine
        device = engine.runtime.device
        starts = [problem.network(TaskSplit.single(len(classes))) for classes in problem.split.tasks]
        engine.progress.begin("coupled", 0, 1)

        table, images = refined_criterion(
            [network.to(device) for network in specialists],
            [loss.to(device) for loss in task_losses(problem, self.measurement.tau)],
            problem.split,
            [start.to(device) for start in starts],
            self._batches,
            problem.train.labels,
            weights=weights,
            n=problem.counts.total,
            damping=damping,
            assembly=self.assembly,
            stage2=self.stage2,
            debiased=self.debiased,
            layers=self.units,
            units=measured,
            images=self.images,
            seed=seed_of(engine.seed, "coupled"),
        )
        engine.progress.advance(1)
        engine.progress.end(f"gradients of {len(images)} images")
        return {
            "shared_variance": table.shared_variance,
            "shared_bias": table.shared_bias,
            "own_variance": table.own_variance,
            "flat": np.array(table.flat),
            "reading": np.frombuffer(table.reading.encode(), dtype=np.uint8),
            "images": images,
        }

    def _batches(self, index: npt.NDArray[np.int64]) -> Iterator[Batch]:
        return self.measurement.batches_of(index)
