"""A grid in plain words: does the criterion predict, and what did following it cost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from markupsafe import Markup

from forktail.labels import FloatArray
from forktail.report.grid_file import Grid, Interval, Record
from forktail.report.names import isolated
from forktail.report.numbers import counted, fixed, listed, points, signed, significant, weight

NOTABLE_CHANCE = 0.5  # share of chance in the variance over cells, from which it is said


def headline(grid: Grid) -> Markup:
    """Say whether the criterion predicts, what the selected cell cost, and what not selecting would have given.

    Args:
        grid: The grid.

    Returns:
        One paragraph.
    """
    if grid.default is None:
        return Markup("No reading of the criterion has numbers for every seed, so nothing can be said of it.")
    record = grid.record(grid.default)
    return Markup(" ").join(
        [_order(grid, record), _against_search(grid, record), _against_reference(grid, record), *_best(grid)]
    )


def cautions(grid: Grid) -> list[Markup]:
    """Say what the grid does not show.

    Args:
        grid: The grid.

    Returns:
        Sentences, the weightiest first.
    """
    return [
        *_cautions_of_seeds(grid),
        _spread(grid),
        *_cautions_of_readings(grid),
        Markup(
            "What the best cell on test has over the selected one (oracle regret) is no fair target: the best of {} "
            "noisy figures is lucky as well as good."
        ).format(grid.num_cells),
        Markup("One data set, one backbone and one way of training: on others the criterion may do better or worse."),
    ]


def with_interval(found: Interval, decimals: int | None, *, plus: bool = False) -> str:
    """Write a measure for a table.

    Args:
        found: The measure.
        decimals: Digits after the point; None is three digits that count.
        plus: It is a difference, whose sign is always written.

    Returns:
        The mean, and the ends of its interval where there is one.

    Example:
        >>> with_interval(Interval(0.5, -0.25, 1.25), 2), with_interval(Interval(0.5, None, None), 1, plus=True)
        ('0.50 (−0.25 to 1.25)', '+0.5')
    """
    mean, low, high = (_written(value, decimals, plus) for value in (found.mean, found.low, found.high))
    return mean if found.low is None or found.high is None else f"{mean} ({low} to {high})"


def in_words(found: Interval, decimals: int, unit: str = "", *, plus: bool = False) -> str:
    """Write a measure for a sentence.

    Args:
        found: The measure.
        decimals: Digits after the point.
        unit: What follows the mean.
        plus: It is a difference, whose sign is always written.

    Returns:
        The mean, and the interval where there is one.

    Example:
        >>> in_words(Interval(0.5, -1, 2), 1, " points", plus=True)
        '+0.5 points (95 % interval −1.0 to +2.0)'
    """
    mean, low, high = (_written(value, decimals, plus) for value in (found.mean, found.low, found.high))
    said = f"{mean}{unit}"
    return said if found.low is None or found.high is None else f"{said} (95 % interval {low} to {high})"


def place_in_words(depth: int, of_head: float | None) -> str:
    """Say which cell it is.

    Args:
        depth: s.
        of_head: w; None at depth 0.

    Returns:
        Depth and weight.

    Example:
        >>> place_in_words(3, 0.5), place_in_words(0, None)
        ('depth 3, w = 0.50', 'depth 0')
    """
    return f"depth {depth}" if of_head is None else f"depth {depth}, w = {weight(of_head)}"


def _written(value: float | None, decimals: int | None, plus: bool) -> str:
    if decimals is None:
        return significant(value)
    return signed(value, decimals) if plus else fixed(value, decimals)


def _order(grid: Grid, record: Record) -> Markup:
    risk = record.of("spearman_risk")
    if risk.mean is None:
        verdict = "cannot be judged, because with some seed all cells tie"
    elif len(grid.seeds) == 1:
        verdict = "can be judged by one seed alone, of which chance is not known"
    elif risk.side is None:
        verdict = "orders the cells alike with every seed"
    elif risk.side > 0:
        verdict = "predicts which cells are better: it orders their risk as it was measured, more than chance would"
    elif risk.side < 0:
        verdict = "misleads: it orders the cells' risk the wrong way round"
    else:
        verdict = "is not seen to predict: that it orders the cells' risk at all may be chance"
    return Markup(
        "On {}, over {} and {}, the criterion in its reading {} {}. Spearman’s correlation with the risk of the "
        "refined networks on test is {}, with their error it is {}."
    ).format(
        isolated(grid.data),
        counted(grid.num_cells, "cell"),
        counted(len(grid.seeds), "seed"),
        isolated(record.reading),
        verdict,
        in_words(risk, 2),
        in_words(record.of("spearman"), 2),
    )


def _against_search(grid: Grid, record: Record) -> Markup:
    regret = record.of("search_regret")
    verdict = {None: "", 0: "; 0 is inside", 1: ": the search is better", -1: ": the criterion is better"}[regret.side]
    return Markup(
        "Against the grid search on validation, which has to train all {}, the selected cell costs {} of balanced "
        "accuracy on test{}."
    ).format(counted(grid.num_cells, "network"), in_words(regret, 1, " points", plus=True), verdict)


def _against_reference(grid: Grid, record: Record) -> Markup:
    if all(grid.entry(choice.selected) == grid.reference for choice in record.by_seed):
        return Markup("It selects full sharing at weight 1/2 with every seed, which nobody has to select: no gain.")
    found = record.of("gain")
    verdict = {None: "", 0: "; 0 is inside", 1: ": selecting pays", -1: ": selecting harms"}[found.side]
    return Markup("Over full sharing at weight 1/2, which nobody has to select, the selected cell gains {}{}.").format(
        in_words(found, 1, " points", plus=True), verdict
    )


def _best(grid: Grid) -> Iterable[Markup]:
    best = grid.best_ordering
    if best is None or len(grid.readings) == 1:
        return
    validation, test = grid.record(best, split="validation"), grid.record(best)
    yield Markup("Of {}, {} orders the risk on validation best ({}); on test it has {}.").format(
        counted(len(grid.readings), "reading"),
        isolated(best),
        fixed(validation.of("spearman_risk").mean, 2),
        in_words(test.of("spearman_risk"), 2),
    )


def _cautions_of_seeds(grid: Grid) -> Iterable[Markup]:
    if len(grid.seeds) == 1:
        yield Markup("One seed has no interval: nothing here can be told from chance.")
        return
    yield Markup(
        "Intervals are by Student’s t over {}, since the cells of a seed share their first stage and their images. "
        "With so few seeds they are wide, and they suppose values that are about normal over seeds, which a "
        "correlation near 1 is not."
    ).format(counted(len(grid.seeds), "seed"))


def _spread(grid: Grid) -> Markup:
    """Say how much there was to predict, beside how sure each cell is."""
    rows, columns = zip(*grid.entries, strict=True)
    error, risk = ((1 - grid.accuracy("refined"))[:, rows, columns], grid.risk("refined")[:, rows, columns])
    said = Markup(
        "Between the best and the worst cell lie {} points of error and {} nats of risk (refined, on test, means over "
        "seeds)."
    ).format(points(float(np.ptp(error.mean(axis=0)))), significant(float(np.ptp(risk.mean(axis=0)))))
    if len(grid.seeds) == 1:
        return said
    hidden = [
        name
        for name, cells in (("error", error), ("risk", risk))
        if _chance(cells) ** 2 > NOTABLE_CHANCE * cells.mean(axis=0).var(ddof=0)
    ]
    told = Markup(
        " Beside what a seed changes in all cells alike, the standard error of a cell is about {} points and {} nats{}."
    ).format(
        points(_chance(error)),
        significant(_chance(risk)),
        f": at least half of the variance of {listed(hidden)} over cells is chance, which nothing can predict"
        if hidden
        else "",
    )
    return said + told


def _chance(cells: FloatArray) -> float:
    """Standard error over seeds of a cell's difference from the mean of all cells; (S, n) values."""
    apart = cells - cells.mean(axis=1, keepdims=True)
    return float(np.sqrt(apart.var(axis=0, ddof=1).mean() / len(cells)))


def _cautions_of_readings(grid: Grid) -> Iterable[Markup]:
    without = [name for name in grid.predicted if name not in grid.readings]
    if without:
        yield Markup("{} no numbers, for the reasons below: {}.").format(
            f"{counted(len(without), 'reading')} {'has' if len(without) == 1 else 'have'}",
            Markup(", ").join(isolated(name) for name in without),
        )
    if len(grid.readings) > 1:
        yield Markup(
            "{} were compared, each interval stands alone, and some will look good by chance: choose one by its "
            "figures on validation, and let test confirm it."
        ).format(counted(len(grid.readings), "reading"))
