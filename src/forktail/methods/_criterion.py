"""The criterion of a problem: what is measured of the Stage-1 networks becomes a table over depths and weights."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import numpy.typing as npt

from forktail.backbones.forked import Forked
from forktail.fisher.moments import Moments
from forktail.methods._coupled import CoupledCriterion
from forktail.methods._method import Problem
from forktail.methods._moments import Measurement
from forktail.methods._places import one_each
from forktail.methods._tasks import TASKS
from forktail.theory import CriterionTable, Uncertainty, binned_table, jackknife, movement_damping
from forktail.training.engine import Engine

if TYPE_CHECKING:
    from forktail.methods.osdtw import OSDTW

COUPLED = ("refined", "raw")  # readings in which encoder and decoders are coupled


@dataclass(frozen=True)
class Criterion:
    """What the criterion says of a problem, as `OSDTW.criterion` computes it.

    Args:
        table: The predicted risk of every depth and weight.
        uncertainty: Its standard errors, where there are groups of images.
        facts: What it was computed with and what was measured, ready for JSON.
        curvature: What a merge of the Stage-1 networks is weighted by, where Stage 2 starts from one: of every layer.
    """

    table: CriterionTable
    uncertainty: Uncertainty | None
    facts: dict[str, Any]
    curvature: list[npt.NDArray[np.float64]] | None


@final
@dataclass(frozen=True)
class Predicting:
    """Eqs. 16 to 18 as a method's options say.

    Args:
        options: The method: its reading and all that belongs to it.
        problem: The problem.
        engine: Keeps what is measured.
    """

    options: OSDTW
    problem: Problem
    engine: Engine

    def of(self, specialists: Sequence[Forked]) -> Criterion:
        """Compute it, or load what was measured of the very same networks and images.

        Args:
            specialists: The Stage-1 networks.

        Returns:
            The table, its errors and what they rest on.
        """
        options, measured = self.options, self._measurement.of(specialists, self._networks(specialists))
        images = None
        if options.reading in COUPLED:
            table, images = self._coupled_table(specialists, measured.whole)
        else:
            table = self._table(measured.whole)
        uncertainty = None
        if measured.groups:
            replicates = [self._table(measured.without(group)) for group in range(len(measured.groups))]
            uncertainty = jackknife(table, replicates, measured.sizes)
        facts = {
            "reading": table.reading,
            "coupled_images": None if images is None else len(images),  # whose gradients were multiplied
            "fisher": options.fisher,
            "fisher_at": options.fisher_at,
            "debiased": options.debiased,
            "damping": table.damping,
            "evaluation_prior": options.evaluation_prior,
            "images": self.problem.counts.total,
            "groups": measured.sizes.astype(int).tolist(),  # images of each, for the standard errors
            "mean_gradient_norms": measured.whole.gradient_norms.tolist(),  # 0 at the optimum that the theory supposes
            "flat_coordinates": table.flat,
            "error_bound": None if table.bound is None else float(np.max(table.bound)),  # of the binned table, nats
            "units": _by_layer(measured.whole),
        }
        # The moments are many times the network: nothing of them stays where nothing is merged.
        curvature = self.curvature(specialists) if options.stage2_start == "merged" else None
        return Criterion(table, uncertainty, facts, curvature)

    def flops(self) -> float:
        """Count what it takes at most.

        Returns:
            Floating-point operations.
        """
        options, once = self.options, self._measurement.flops()
        times = 2 if options.stage2_start == "merged" and options.fisher_at != "stage1" else 1
        return times * once + (self._coupled.most_flops() if options.reading in COUPLED else 0.0)

    def curvature(self, specialists: Sequence[Forked]) -> list[npt.NDArray[np.float64]]:
        """Measure, or load, what a merge of the Stage-1 networks is weighted by: always at these themselves.

        Args:
            specialists: The Stage-1 networks.

        Returns:
            (K, d) of the stem and of every unit.
        """
        return _curvature(self._measurement.of(specialists).whole)

    def _networks(self, specialists: Sequence[Forked]) -> list[Forked] | None:
        """Return where gradients are taken, one network per task; None is at the Stage-1 networks."""
        if self.options.fisher_at == "stage1":
            return None
        place = self.options.midpoint if self.options.fisher_at == "midpoint" else self.options.shared_network
        return one_each(place(self.problem, self.engine, specialists, (0.5, 0.5)), specialists)

    @property
    def _measurement(self) -> Measurement:
        options = self.options
        uniform = options.evaluation_prior == "uniform"
        groups = 0 if options.reading in COUPLED else options.groups
        return Measurement(self.problem, self.engine, options.tau, options.fisher, uniform, groups)

    def _table(self, measured: Moments) -> CriterionTable:
        """Compute the criterion; a damping from the data is estimated anew, so that its error counts."""
        options, counts, split = self.options, self.problem.counts, self.problem.split
        own = [int(counts.per_class[task].sum()) for task in split.tasks]
        return binned_table(
            measured.units,
            measured.decoders,
            weights=self._weights(),
            n=[counts.total] * len(TASKS),
            reading=options.reading,
            debiased=options.debiased,
            damping=self._damping(measured),
            own_group_n=own if options.reading == "unequal" else None,
        )

    @property
    def _coupled(self) -> CoupledCriterion:
        options = self.options
        assembly: Literal["refined", "raw"] = "raw" if options.reading == "raw" else "refined"
        asked = options.stage2, options.debiased, options.coupled_units, options.coupled_images
        return CoupledCriterion(self._measurement, assembly, *asked)

    def _coupled_table(
        self, specialists: Sequence[Forked], measured: Moments
    ) -> tuple[CriterionTable, npt.NDArray[np.int64]]:
        """Compute the criterion with encoder and decoders coupled, and say of which images."""
        weights, damping = self._weights(), self._damping(measured)
        table, images = self._coupled.of(specialists, measured.units, weights, damping)
        if len(images) < self.problem.counts.total:
            self.engine.note(
                f"the coupled criterion is of {len(images)} of {self.problem.counts.total} images; "
                "method.coupled_images takes more, at a cost that grows with their square"
            )
        return table, images

    def _weights(self) -> npt.NDArray[np.float64]:
        """Return the (W, 2) candidate weights."""
        num_weights, pinned = self.options.weights, self.options.weight
        grid = np.arange(1, num_weights + 1) / (num_weights + 1)
        head = grid if pinned is None else np.union1d(grid, [pinned])
        return np.stack([head, 1 - head], axis=1)

    def _damping(self, measured: Moments) -> float:
        if self.options.damping != "movement":
            return float(self.options.damping)
        return movement_damping(measured.units, measured.decoders, [self.problem.counts.total] * len(TASKS))


def _curvature(measured: Moments) -> list[npt.NDArray[np.float64]]:
    return [unit.curvature for unit in measured.units]


def as_csv(table: CriterionTable | Uncertainty) -> str:
    """Write a table with one line per depth and weight.

    Args:
        table: The criterion, alone or with its standard errors.

    Returns:
        Comma-separated values under a line of names.
    """
    text, rows = io.StringIO(), list(table.rows())
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _by_layer(measured: Moments) -> list[dict[str, Any]]:
    """Sum up what was measured, layer by layer, for the report; the decoders of both tasks are one row."""
    names = ["stem", *(f"unit {number}" for number in range(1, len(measured.units)))]
    rows = [
        {"layer": layer, "name": name} | unit.summary()
        for layer, (name, unit) in enumerate(zip(names, measured.units, strict=True))
    ]
    each = [decoder.summary() for decoder in measured.decoders]
    sums = {key: [value for summary in each for value in summary[key]] for key in ("curvature", "scores")}
    parameters = sum(decoder.num_coordinates for decoder in measured.decoders) // len(each)  # of one task's
    decoder = {"layer": len(rows), "name": "decoder", "parameters": parameters, **sums}
    return [*rows, decoder | {"distance": None, "mismatch": None}]
