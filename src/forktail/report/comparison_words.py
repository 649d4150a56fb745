"""A comparison in plain words: what may be concluded, and what not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from forktail.report.comparison_file import Comparison, Difference, Row
from forktail.report.names import isolated
from forktail.report.numbers import UNKNOWN, counted, points, signed, significant

EQUAL_COMPUTE = 1.1  # largest over smallest training compute, up to which it counts as equal


def headline(comparison: Comparison) -> Markup:
    """Say who stands first, and whether that is more than chance.

    Args:
        comparison: The comparison.

    Returns:
        One paragraph.
    """
    return Markup(" ").join([_first(comparison), *_against_reference(comparison)])


def cautions(comparison: Comparison) -> list[Markup]:
    """Say what the comparison does not show.

    Args:
        comparison: The comparison.

    Returns:
        Sentences.
    """
    found = [*_cautions_of_seeds(comparison), *_cautions_of_compute(comparison.methods)]
    if comparison.left_out:
        labels = sorted({one.label for one in comparison.left_out})
        found.append(
            Markup("{} could not be finished, so {} not in the tables: {}.").format(
                counted(len(comparison.left_out), "run"),
                "its method is" if len(labels) == 1 else "their methods are",
                Markup(", ").join(isolated(label) for label in labels),
            )
        )
    found.append(Markup("One data set and one backbone: on others the order may be another."))
    return found


def balanced_difference(row: Row) -> Difference | None:
    """Return a method's difference from the reference in balanced accuracy.

    Args:
        row: The method.

    Returns:
        The difference; None for the reference itself, or if it is not known.
    """
    found = None if row.difference is None else row.difference.get("balanced")
    return None if found is None or found.mean is None else found


def _first(comparison: Comparison) -> Markup:
    best = comparison.methods[0]
    error = best.standard_error.get("balanced")
    reached = points(best.mean.get("balanced"))
    said = f"{reached} ± {points(error)}" if error is not None else reached
    return Markup("{} stands first of {} on {}, with a balanced accuracy of {} points over {}.").format(
        isolated(best.label),
        counted(len(comparison.methods), "method"),
        isolated(comparison.data),
        said,
        counted(comparison.num_seeds, "seed"),
    )


def _against_reference(comparison: Comparison) -> Iterable[Markup]:
    """Compare the first method with the reference, or the others with the first where it is the reference."""
    best = comparison.methods[0]
    others = [row for row in comparison.methods if balanced_difference(row) is not None]
    if comparison.reference is None or not others:
        if len(comparison.methods) > 1:
            yield Markup("No differences were computed, so it is not known whether that is more than chance.")
        return
    if comparison.num_seeds < 2:
        yield _one_seed(comparison, others)
        return
    if best.label != comparison.reference:
        yield _verdict(best, comparison.reference)
        return
    yield Markup("It is the baseline with which the others are compared.")
    yield from _verdicts(others)


def _one_seed(comparison: Comparison, others: Sequence[Row]) -> Markup:
    best, reference = comparison.methods[0], comparison.reference or ""
    difference = balanced_difference(best)
    if difference is None:
        second = others[0]
        gap = balanced_difference(second)
        ahead, other = -(gap.mean if gap and gap.mean is not None else 0.0), second.label
    else:
        ahead, other = difference.mean or 0.0, reference
    return Markup(
        "That is {} points compared with {}, but with one seed nothing is known about chance: another seed may turn "
        "the order round."
    ).format(signed(100 * ahead), isolated(other))


def _verdict(row: Row, reference: str) -> Markup:
    difference = balanced_difference(row)
    if difference is None:
        return Markup("Its difference from the reference {} is not known.").format(isolated(reference))
    said = interval_in_words(difference)
    if difference.distinguishable:
        word = "above" if (difference.mean or 0) > 0 else "below"
        return Markup("It is {} the baseline {} by {}.").format(word, isolated(reference), said)
    return Markup("It is not distinguishable from the baseline {}: the difference is {}, and 0 is inside.").format(
        isolated(reference), said
    )


def _verdicts(others: Sequence[Row]) -> Iterable[Markup]:
    equal = [row for row in others if not _known(row)]
    below = [row for row in others if _known(row) and (_known_mean(row) < 0)]
    above = [row for row in others if _known(row) and (_known_mean(row) > 0)]
    for rows, said in (
        (equal, "not distinguishable from it"),
        (below, "below it"),
        (above, "above it on the test pictures, though ranked behind it"),
    ):
        if rows:
            yield Markup("{}: {}.").format(
                said[0].upper() + said[1:],
                Markup(", ").join(
                    Markup("{} ({})").format(isolated(row.label), interval_in_words(balanced_difference(row)))
                    for row in rows
                ),
            )


def _known(row: Row) -> bool:
    difference = balanced_difference(row)
    return bool(difference and difference.distinguishable)


def _known_mean(row: Row) -> float:
    difference = balanced_difference(row)
    return 0.0 if difference is None or difference.mean is None else difference.mean


def interval_in_words(difference: Difference | None, *, unit: str = " points", scale: float = 100) -> str:
    """Write a difference with its interval.

    Args:
        difference: The difference.
        unit: What follows the number.
        scale: What the difference is multiplied by.

    Returns:
        The mean, and the interval where there is one.

    Example:
        >>> interval_in_words(Difference(0.03, -0.01, 0.07))
        '+3.0 points (95 % interval −1.0 to +7.0)'
    """
    if difference is None or difference.mean is None:
        return UNKNOWN
    mean = f"{signed(scale * difference.mean)}{unit}"
    if difference.low is None or difference.high is None:
        return mean
    return f"{mean} (95 % interval {signed(scale * difference.low)} to {signed(scale * difference.high)})"


def _cautions_of_seeds(comparison: Comparison) -> Iterable[Markup]:
    if comparison.num_seeds < 2:
        yield Markup("One seed has no standard error and no interval: no difference here can be told from chance.")
        return
    yield Markup(
        "± is one standard error of the mean over {}. Intervals are paired over seeds and by Student's t; with so few "
        "seeds they are wide, and they suppose differences that are about normal."
    ).format(counted(comparison.num_seeds, "seed"))
    compared = sum(row.difference is not None for row in comparison.methods)
    if compared > 1:
        yield Markup(
            "Each interval stands alone: of {} methods compared in many measures, some will miss 0 by chance."
        ).format(compared)


def _cautions_of_compute(methods: Sequence[Row]) -> Iterable[Markup]:
    compute = [(value, row.label) for row in methods if (value := row.mean.get("training_flops"))]
    if len(compute) < 2:
        return
    (least, cheapest), (most, dearest) = min(compute), max(compute)
    if most > EQUAL_COMPUTE * least:
        yield Markup(
            "Training compute is not equal: {} had {} times that of {}. A network that is still improving gains from "
            "training longer, whatever the method."
        ).format(isolated(dearest), significant(most / least, 2), isolated(cheapest))
