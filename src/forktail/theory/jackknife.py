"""How sure a criterion table is: intervals from tables that leave out one group of images each.

docs/theory.md, section 14. ``G`` groups; any array of numbers goes, so the functions know nothing of tables' insides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.theory.criterion import CriterionTable
from forktail.theory.moments import FloatArray

TERMS = ("shared_variance", "shared_bias", "own_variance", "total")


@dataclass(frozen=True, eq=False)
class Estimate:
    """Numbers without their first-order bias, with standard errors.

    Args:
        value: theta - bias, where bias is what the jackknife finds (eq. 25).
        error: Standard error of each.
        groups: G, which says how well the errors are known.

    Example:
        >>> low, high = Estimate(np.array([1.0]), np.array([0.1]), groups=8).interval()
        >>> low.round(3), high.round(3)
        (array([0.764]), array([1.236]))
    """

    value: FloatArray
    error: FloatArray
    groups: int

    def interval(self, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Lower and upper end of the interval by Student's t with G - 1 degrees of freedom.

        Args:
            level: Probability that it holds the truth.

        Returns:
            Two arrays like `value`.
        """
        reach = student_t((1 + level) / 2, self.groups - 1) * self.error
        return self.value - reach, self.value + reach


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """A table together with its leave-one-group-out replicates.

    Args:
        table: From all images.
        replicates: G tables of the same cells, each from all images but one group.
        sizes: (G,) images of the groups.

    Example:
        >>> whole = CriterionTable(np.array([[0.5, 0.5]]), *np.ones((3, 2, 1)), reading="general", debiased=True,
        ...                        damping=0.0, flat=0)
        >>> Uncertainty(whole, [whole, whole], np.array([5.0, 5.0])).term("total").error
        array([[0.],
               [0.]])
    """

    table: CriterionTable
    replicates: tuple[CriterionTable, ...]
    sizes: FloatArray

    def term(self, name: str) -> Estimate:
        """One term of every cell.

        Args:
            name: One of :data:`TERMS`.

        Returns:
            (L+1, W) estimates.
        """
        return delete_one_group(getattr(self.table, name), [getattr(one, name) for one in self.replicates], self.sizes)

    def difference(self, depth: int, column: int) -> Estimate:
        """The total of every cell minus that of one, whose errors are mostly common and cancel.

        Args:
            depth: Row of the one cell.
            column: Its weight.

        Returns:
            (L+1, W) estimates.
        """
        whole, *parts = (one.total - one.total[depth, column] for one in (self.table, *self.replicates))
        return delete_one_group(whole, parts, self.sizes)

    def rows(self) -> Iterator[dict[str, object]]:
        """Walk through the cells as `CriterionTable.rows` does, with standard errors.

        Yields:
            What the table yields, then ``<term>_error`` of each of :data:`TERMS`.
        """
        errors = {f"{name}_error": self.term(name).error.ravel() for name in TERMS}
        for number, row in enumerate(self.table.rows()):
            yield row | {name: float(error[number]) for name, error in errors.items()}


def jackknife(
    table: CriterionTable, replicates: Sequence[CriterionTable], sizes: npt.ArrayLike | None = None
) -> Uncertainty:
    """Put a table and its replicates together.

    All are asked for the same ``n``: that of Stage 1, not the number of images that the moments were measured on.

    Args:
        table: From all images.
        replicates: For each of G >= 2 groups of images the table from all images but these.
        sizes: (G,) images of each group; None if they are equal.

    Returns:
        What intervals are read from.

    Raises:
        InputError: Fewer than two replicates, tables of other cells, or sizes that do not fit.

    Example:
        >>> whole = CriterionTable(np.array([[0.5, 0.5]]), *np.ones((3, 2, 1)), reading="general", debiased=True,
        ...                        damping=0.0, flat=0)
        >>> len(jackknife(whole, [whole] * 8).replicates)
        8
    """
    if len(replicates) < 2:
        raise InputError(f"{len(replicates)} replicates", expected="at least 2 groups of images, better 8")
    for number, one in enumerate(replicates):
        if one.total.shape != table.total.shape or not np.array_equal(one.weights, table.weights):
            raise InputError(f"replicate {number} has other cells than the table", expected="one grid for all")
    images = np.ones(len(replicates)) if sizes is None else np.asarray(sizes, dtype=np.float64)
    if images.shape != (len(replicates),) or not np.all(images > 0):
        raise InputError(f"sizes {images.tolist()}", expected=f"a positive number for each of {len(replicates)} groups")
    return Uncertainty(table, tuple(replicates), images)


def delete_one_group(whole: FloatArray, parts: Sequence[FloatArray], sizes: FloatArray) -> Estimate:
    """Estimate bias and standard error from what every group's absence changes.

    docs/theory.md, eqs. 24 to 26 (Busing, Meijer and van der Leeden 1999): with h_g = N / N_g and pseudo-values
    tau_g = h_g theta - (h_g - 1) theta_(g), the value is J = sum_g tau_g / h_g and its variance
    1/G sum_g (tau_g - J)^2 / (h_g - 1).

    Args:
        whole: theta, from all images.
        parts: G arrays theta_(g), each from all images but one group.
        sizes: (G,) images N_g of each group.

    Returns:
        The estimate.

    Example:
        >>> images = np.array([1.0, 2.0, 6.0, 7.0])                                # the mean: s / sqrt(4)
        >>> found = delete_one_group(images.mean(), [np.delete(images, g).mean() for g in range(4)], np.ones(4))
        >>> bool(abs(found.error - images.std(ddof=1) / 2) < 1e-12)
        True
    """
    h = (sizes.sum() / sizes).reshape(-1, *[1] * np.ndim(whole))
    pseudo = h * whole - (h - 1) * np.stack(parts)
    value = (pseudo / h).sum(axis=0)
    return Estimate(value, np.sqrt(np.mean((pseudo - value) ** 2 / (h - 1), axis=0)), len(parts))


def student_t(probability: float, freedom: int) -> float:
    """Quantile of Student's t distribution.

    Its distribution function is a finite sum of powers of a cosine for whole degrees of freedom (Abramowitz and Stegun
    26.7.3 and 26.7.4); bisection inverts it.

    Args:
        probability: In (1/2, 1).
        freedom: Degrees of freedom >= 1.

    Returns:
        The number that is not exceeded with this probability.

    Example:
        >>> round(student_t(0.975, 7), 4)
        2.3646
    """
    low, high = 0.0, np.pi / 2
    while high - low > 1e-15:
        angle = (low + high) / 2
        low, high = (angle, high) if (1 + _within(angle, freedom)) / 2 < probability else (low, angle)
    return float(np.sqrt(freedom) * np.tan(low))


def _within(angle: float, freedom: int) -> float:
    """Probability that t lies within sqrt(freedom) tan(angle) of 0."""
    sine, cosine = np.sin(angle), np.cos(angle)
    term, total = (cosine, 0.0) if freedom % 2 else (1.0, 0.0)
    for power in range(1 + freedom % 2, freedom, 2):
        total += term
        term *= cosine**2 * power / (power + 1)
    return float(2 / np.pi * (angle + sine * total)) if freedom % 2 else float(sine * total)
