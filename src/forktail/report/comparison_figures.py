"""The charts of a comparison, each with its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from forktail.report.charts.intervals import Estimate, Measured, intervals
from forktail.report.charts.scatter import Point, named_scatter
from forktail.report.comparison_file import ACCURACIES, Comparison, Difference, Row
from forktail.report.comparison_words import interval_in_words
from forktail.report.names import shortened
from forktail.report.numbers import UNKNOWN, fixed, points, signed, significant
from forktail.report.page import Figure, Table
from forktail.report.run_figures import per_cent

SHOWN = {"balanced": ("all classes", 5), "many": ("many", 0), "medium": ("medium", 2), "few": ("few", 1)}
NAMES = {"balanced": "all classes", "worst": "worst class", "micro": "all images", "nll": "NLL", "ece": "ECE"}
MEASURES = (*ACCURACIES, "nll", "ece")
LABEL = 40  # characters


def differences_figure(comparison: Comparison) -> Figure | None:
    """Paired differences from the reference with their intervals.

    Args:
        comparison: The comparison.

    Returns:
        A row per method but the reference; None without differences.
    """
    rows = [row for row in comparison.methods if row.difference is not None]
    if not rows or comparison.reference is None:
        return None
    title = f"Difference from {shortened(comparison.reference, LABEL)}"
    return Figure(
        "differences",
        title,
        intervals(
            "differences",
            title,
            "Each method's accuracy minus that of the reference, paired over seeds, with 95 % intervals where there "
            "are several seeds: "
            + "; ".join(
                f"{shortened(row.label, LABEL)} {interval_in_words(_difference(row, 'balanced'))}" for row in rows
            ),
            [row.label for row in rows],
            [Measured(name, style, [_as_estimate(row, key) for row in rows]) for key, (name, style) in SHOWN.items()],
            x_name="difference of accuracy, points",
            form=lambda value: points(value).removesuffix(".0"),
            zero=True,
        ),
        Table(
            ["method", *(NAMES.get(key, key) for key in MEASURES)],
            [[row.label, *(_difference_text(row, key) for key in MEASURES)] for row in rows],
            note="In points; NLL in nats. In brackets the 95 % interval. For NLL and ECE less is better.",
        ),
        "Where the interval holds 0, the method is not distinguishable from the reference."
        if comparison.num_seeds > 1
        else "With one seed there is no interval.",
    )


def groups_figure(comparison: Comparison) -> Figure:
    """Accuracy by shot group of each method.

    Args:
        comparison: The comparison.

    Returns:
        A row per method.
    """
    title = "Accuracy by group of classes"
    return Figure(
        "groups",
        title,
        intervals(
            "groups",
            title,
            "; ".join(
                f"{shortened(row.label, LABEL)}: "
                + ", ".join(f"{name} {points(row.mean.get(key))}" for key, (name, _) in SHOWN.items())
                for row in comparison.methods
            ),
            [row.label for row in comparison.methods],
            [
                Measured(name, style, [_mean_estimate(row, key) for row in comparison.methods])
                for key, (name, style) in SHOWN.items()
            ],
            x_name="accuracy, % of a class's test images, mean over classes",
            form=per_cent,
        ),
        Table(
            ["method", *(f"{name}, %" for name, _ in SHOWN.values())],
            [[row.label, *(with_error(row, key, 100, 1) for key in SHOWN)] for row in comparison.methods],
        ),
        "Whiskers are one standard error over seeds." if comparison.num_seeds > 1 else "",
    )


def compute_figure(methods: Sequence[Row]) -> Figure | None:
    """Balanced accuracy against training compute.

    Args:
        methods: The methods.

    Returns:
        A point per method; None if their compute is not known.
    """
    known = [
        (row, flops, share)
        for row in methods
        if (flops := row.mean.get("training_flops")) and (share := row.mean.get("balanced")) is not None
    ]
    if not known:
        return None
    title = "Accuracy by training compute"
    return Figure(
        "compute",
        title,
        named_scatter(
            "compute",
            title,
            "; ".join(
                f"{shortened(row.label, LABEL)}: {points(share)} % at {significant(flops / 1e12)} TFLOP"
                for row, flops, share in known
            ),
            [
                Point(flops / 1e12, share, number, shortened(row.label, LABEL))
                for number, (row, flops, share) in enumerate(known)
            ],
            x_name="training compute, TFLOP",
            y_name="balanced accuracy, %",
            form=per_cent,
        ),
        Table(
            ["method", "training compute, TFLOP", "balanced accuracy, %"],
            [[row.label, significant(flops / 1e12), points(share)] for row, flops, share in known],
        ),
        "Up and to the left is better. Compute is counted at fixed shapes; a multiply-add counts as two operations.",
    )


def with_error(row: Row, key: str, scale: float, decimals: int | None) -> str:
    """Write a mean with its standard error.

    Args:
        row: The method.
        key: What was measured.
        scale: What it is multiplied by.
        decimals: Digits after the point; None is three digits that count.

    Returns:
        Such as ``37.4 ± 0.3``, without the error for one seed.
    """
    mean, error = (
        None if value is None else scale * value for value in (row.mean.get(key), row.standard_error.get(key))
    )
    if mean is None:
        return UNKNOWN
    if decimals is None:
        return significant(mean) if not error else f"{significant(mean)} ± {significant(error, 2)}"
    return fixed(mean, decimals) if error is None else f"{fixed(mean, decimals)} ± {fixed(error, decimals)}"


def _difference(row: Row, key: str) -> Difference:
    return (row.difference or {}).get(key, Difference(None, None, None))


def _difference_text(row: Row, key: str) -> str:
    """Write a difference in points, that of the likelihood in nats."""
    found = _difference(row, key)
    scale, decimals = (1, 3) if key == "nll" else (100, 1)
    mean, low, high = (
        UNKNOWN if value is None else signed(scale * value, decimals) for value in (found.mean, found.low, found.high)
    )
    return mean if found.low is None else f"{mean} ({low} to {high})"


def _as_estimate(row: Row, key: str) -> Estimate:
    found = _difference(row, key)
    return Estimate(found.mean, found.low, found.high)


def _mean_estimate(row: Row, key: str) -> Estimate:
    mean, error = row.mean.get(key), row.standard_error.get(key)
    if mean is None or error is None:
        return Estimate(mean)
    return Estimate(mean, mean - error, mean + error)
