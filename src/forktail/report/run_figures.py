"""The charts of a run, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from forktail.labels import IntArray
from forktail.report.charts.bars import Bar, bars
from forktail.report.charts.frequencies import Strip, frequencies
from forktail.report.charts.heat_map import heat_map
from forktail.report.charts.intervals import Estimate, Measured, intervals
from forktail.report.charts.lines import Series, lines
from forktail.report.charts.reliability import Bin, reliability
from forktail.report.charts.scale import asks_for_logarithm
from forktail.report.charts.scatter import Point, scatter
from forktail.report.names import shortened
from forktail.report.numbers import UNKNOWN, counted, fixed, percent, points, significant, weight, whole, with_prefix
from forktail.report.page import Figure, Table
from forktail.report.run_files import GROUPS, Clock, Criterion, CriterionFacts, Epoch, Metrics, RunContent, Stage

MOST_CLASSES = 1000  # drawn and listed; beyond, evenly spaced ones
FEWEST_FOR_TREND = 20  # classes
MOST_EPOCHS = 200  # of one stage
SHOT_STYLES = {"many": 0, "medium": 2, "few": 1}
GREY = 5
SHORT = 40  # characters of a class name in what a pointer is told


def per_cent(share: float) -> str:
    """Write a share beside an axis.

    Args:
        share: 1 is all.

    Returns:
        Per cent, without decimals that are not needed.

    Example:
        >>> per_cent(0.25)
        '25 %'
    """
    return f"{100 * share:.6g} %".replace("-", "−")


def frequency_figure(content: RunContent) -> Figure:
    """Class frequencies with the tasks and the shot groups.

    Args:
        content: The run.

    Returns:
        A bar per class.
    """
    metrics, counts, names = content.metrics, content.metrics.counts, content.task_names
    ranked, note = _thinned(counts.ranked)
    shot = _membership(metrics.shots.values(), counts.num_classes)
    task = _membership(_tasks(metrics), counts.num_classes)
    strips = [Strip("group", [(name, SHOT_STYLES[name]) for name in GROUPS], shot[ranked].tolist())]
    if names:
        strips.append(Strip("task", [(name, style) for style, name in enumerate(names)], task[ranked].tolist()))
    groups = [f"{name} ({metrics.groups.edge(name)})" for name in GROUPS]
    return Figure(
        "frequencies",
        "How often each class occurs",
        frequencies(
            "frequencies",
            "How often each class occurs",
            f"One bar for each of {counts.num_classes} classes, from {counts.per_class.max()} training images down to "
            f"{counts.per_class.min()}. Strips below show the shot groups and the tasks.",
            counts.per_class[ranked].tolist(),
            [shortened(metrics.classes[index], SHORT) for index in ranked],
            strips,
            classes=counts.num_classes,
        ),
        Table(
            ["class", "group", "task", "training images", "share of all"],
            [
                [
                    metrics.classes[index],
                    GROUPS[shot[index]],
                    names[task[index]] if names else UNKNOWN,
                    whole(metrics.train_images[index]),
                    percent(float(counts.prior[index])),
                ]
                for index in ranked
            ],
            words=3,
            note=note,
        ),
        f"Groups by rule {metrics.groups.rule}, n is the number of training images: {'; '.join(groups)}.",
    )


def criterion_figure(criterion: Criterion) -> Figure:
    """The criterion over depth and weight.

    Args:
        criterion: The table and the choice.

    Returns:
        A heat map.
    """
    choice, total = criterion.choice, criterion.total
    chosen = (choice.depth, criterion.column(choice.weight))
    equals = [(depth, criterion.column(of_head)) for depth, of_head in choice.equals]
    range_ = float(total.max() - total.min())
    groups = len(criterion.facts.groups)
    if choice.not_distinguishable is None:
        said, mark = "within 1 % of the range of the best", "within 1 % of the range of the best: as good as chosen"
        explained = "lie within 1 % of the range of the best: the criterion does not tell them apart."
    else:
        said, mark = "not distinguishable from it, itself among them", "not distinguishable from it"
        explained = (
            "are not distinguishable from the chosen one: the 95 % interval of the difference, by jackknife over "
            f"{groups} groups of images, does not lie above zero."
        )
    return Figure(
        "criterion",
        "The criterion over shared depth and weight",
        heat_map(
            "criterion",
            "The criterion over shared depth and weight",
            f"Predicted excess risk for depths 0 to {criterion.num_units} and {len(criterion.weights)} weights of the "
            f"head, from {significant(float(total.min()))} to {significant(float(total.max()))} nats per image. "
            f"Chosen: depth {choice.depth}, weight {weight(choice.weight)}. "
            f"{counted(len(equals), 'cell')} {said}.",
            total,
            rows=range(criterion.num_units + 1),
            columns=criterion.weights,
            chosen=[chosen],
            alike=[cell for cell in equals if cell != chosen],
            alike_name=mark,
            x_name="weight of the head task, w (the tail has 1 − w)",
            y_name="shared depth, s: stem and first s units",
            unit="nats",
        ),
        Table(
            ["shared depth", *(f"w = {weight(value)}" for value in criterion.weights)],
            [[str(depth), *(significant(term.total, 5) for term in row)] for depth, row in enumerate(criterion.terms)],
        ),
        f"Nats per image, up to a constant; smaller is better. Each colour ends at a share of the table's range, "
        f"{significant(range_)} nats, above its smallest value. Depth 0 shares nothing, so the weight means nothing "
        f"there. Cells with a dot {explained}",
    )


def terms_figure(criterion: Criterion) -> Figure:
    """The three terms by depth at the chosen weight.

    Args:
        criterion: The table and the choice.

    Returns:
        Four lines.
    """
    choice = criterion.choice
    column = criterion.column(choice.weight)
    terms = [row[column] for row in criterion.terms]
    named = {
        "total": [(term.total, term.total_error) for term in terms],
        "variance of the shared part": [(term.shared_variance, term.shared_variance_error) for term in terms],
        "bias of the shared part": [(term.shared_bias, term.shared_bias_error) for term in terms],
        "variance of the tasks' own parts": [(term.own_variance, term.own_variance_error) for term in terms],
    }
    known = all(error is not None for pairs in named.values() for _, error in pairs)
    title = f"The criterion's three terms by depth, at weight {weight(choice.weight)}"
    return Figure(
        "terms",
        title,
        lines(
            "terms",
            title,
            f"The total is smallest at depth {int(np.argmin([value for value, _ in named['total']]))}.",
            [
                Series(name, [(depth, value) for depth, (value, _) in enumerate(pairs)], style, broad=name == "total")
                for (name, pairs), style in zip(named.items(), (GREY, 0, 1, 2), strict=True)
            ],
            x_name="shared depth, units",
            y_name="criterion, nats per image",
        ),
        Table(
            ["shared depth", *(f"{name}, nats" for name in named)],
            [[str(depth), *(_with_error(*pairs[depth]) for pairs in named.values())] for depth in range(len(terms))],
            note="After ±, the standard error by jackknife over groups of images." if known else "",
        ),
        "Sharing pays where the variance it saves is more than the bias it brings. Debiasing or damping can make the "
        "bias negative.",
    )


def _with_error(value: float, error: float | None) -> str:
    return significant(value, 5) if error is None else f"{significant(value, 5)} ± {significant(error, 2)}"


def fisher_figure(facts: CriterionFacts) -> Figure:
    """Fisher information by layer.

    Args:
        facts: With at least one unit.

    Returns:
        A point per task and layer.
    """
    units = facts.units
    per_parameter = np.array([unit.curvature for unit in units]) / [[max(unit.parameters, 1)] for unit in units]
    decades = asks_for_logarithm(per_parameter.ravel().tolist())
    return Figure(
        "fisher",
        "Fisher information by layer",
        intervals(
            "fisher",
            "Fisher information by layer",
            "Curvature of each task's loss per parameter, for the stem, each unit and the decoder.",
            [unit.name for unit in units],
            [
                Measured(name, style, [Estimate(float(value)) for value in per_parameter[:, style]])
                for style, name in enumerate(("head", "tail"))
            ],
            x_name=f"curvature per parameter, nats per squared unit{', logarithmic' if decades else ''}",
            decades=decades,
        ),
        Table(
            [
                "layer",
                "parameters",
                *(f"{what}, {task}" for what in ("curvature", "gradient variance") for task in ("head", "tail")),
            ],
            [
                [unit.name, whole(unit.parameters), *(significant(v, 4) for v in (*unit.curvature, *unit.scores))]
                for unit in units
            ],
            note="Curvature and the variance of per-image gradients are sums over the layer's parameters, in nats.",
        ),
        "Diagonal, at the Stage-1 solutions. It says how firmly the data hold each layer.",
    )


def mismatch_figure(facts: CriterionFacts) -> Figure:
    """How far apart the two tasks want each layer.

    Args:
        facts: With at least one unit.

    Returns:
        A bar per layer.
    """
    units = [unit for unit in facts.units if unit.mismatch is not None]
    return Figure(
        "mismatch",
        "Mismatch by layer",
        bars(
            "mismatch",
            "Mismatch by layer",
            "How far apart the Stage-1 solutions of head and tail are in each layer, weighed by their curvature.",
            [Bar(unit.name, unit.mismatch, 3) for unit in units],
            x_name="mismatch, nats per image",
            form=significant,
        ),
        Table(
            ["layer", "mismatch, nats", "squared distance", "parameters"],
            [
                [unit.name, significant(unit.mismatch, 4), significant(unit.distance, 4), whole(unit.parameters)]
                for unit in facts.units
            ],
            note="Decoders are never shared and have none.",
        ),
        "What one common solution would cost both tasks, twice, to second order. Sampling noise is still in it: even "
        "tasks that agree show some.",
    )


def learning_figure(epochs: Sequence[Epoch]) -> Figure:
    """Training losses of all stages.

    Args:
        epochs: At least one.

    Returns:
        A line per stage.
    """
    stages = list(dict.fromkeys(epoch.stage for epoch in epochs))
    kept = {stage: _every([epoch for epoch in epochs if epoch.stage == stage]) for stage in stages}
    longest = max(sum(epoch.stage == stage for epoch in epochs) for stage in stages)
    return Figure(
        "learning",
        "Learning curves of all stages",
        lines(
            "learning",
            "Learning curves of all stages",
            "; ".join(
                f"{stage}: from {significant(one[0].loss)} to {significant(one[-1].loss)}"
                for stage, one in kept.items()
            ),
            [
                Series(shortened(stage, 28), [(epoch.epoch, epoch.loss) for epoch in one], number)
                for number, (stage, one) in enumerate(kept.items())
            ],
            x_name="epoch of the stage",
            y_name="training loss, nats per image",
        ),
        Table(
            ["stage", "epoch", "steps so far", "loss, nats", "learning rate at its end"],
            [
                [epoch.stage, whole(epoch.epoch), whole(epoch.step), significant(epoch.loss, 5), significant(epoch.lr)]
                for one in kept.values()
                for epoch in one
            ],
            note=f"Evenly spaced epochs, {MOST_EPOCHS} of each stage; log.jsonl has all."
            if longest > MOST_EPOCHS
            else "",
        ),
        "Losses of different stages are sums over different classes, with different weights: compare each with itself.",
    )


def compute_figure(stages: Sequence[Stage], clocks: Sequence[Clock]) -> Figure:
    """What each stage took.

    Args:
        stages: At least one.
        clocks: Their times.

    Returns:
        A bar per stage.
    """
    seconds = {clock.stage: clock.seconds for clock in clocks}
    return Figure(
        "compute",
        "Training compute of each stage",
        bars(
            "compute",
            "Training compute of each stage",
            "; ".join(f"{stage.stage}: {with_prefix(stage.flops, 'FLOP')}" for stage in stages),
            [Bar(stage.stage, stage.flops / 1e12) for stage in stages],
            x_name="compute, TFLOP",
            form=significant,
        ),
        Table(
            ["stage", "compute, TFLOP", "time, s"],
            [[stage.stage, significant(stage.flops / 1e12), fixed(seconds.get(stage.stage), 1)] for stage in stages],
        ),
    )


def groups_figure(metrics: Metrics, validation: Metrics | None) -> Figure:
    """Accuracy by group of classes.

    Args:
        metrics: On the test part.
        validation: On the validation part, if there is one.

    Returns:
        A bar per group.
    """
    images = np.array(metrics.test_images)
    everyone = np.arange(len(images))
    members = {"balanced": everyone, **metrics.shots, **_head_and_tail(metrics)}
    styles = {"balanced": GREY, **SHOT_STYLES, "head": 0, "tail": 1, "worst": GREY, "micro": GREY}
    names = {"balanced": "all classes", "worst": "worst class", "micro": "all images"}

    def said(key: str) -> str:
        classes = metrics.groups.classes.get(key)
        return names.get(key, key) if classes is None else f"{key}, {counted(classes, 'class', 'classes')}"

    shares = {key: getattr(metrics.accuracy, key) for key in styles}
    columns = ["group", "classes", "test images", "accuracy, %"]
    rows = [
        [
            names.get(key, key),
            whole(members[key].size) if key in members else "",
            whole(int(images[members[key]].sum())) if key in members else "",
            points(share),
        ]
        for key, share in shares.items()
    ]
    if validation is not None:
        columns.append("on validation images, %")
        for row, key in zip(rows, shares, strict=True):
            row.append(points(getattr(validation.accuracy, key)))
    return Figure(
        "groups",
        "Accuracy by group of classes",
        bars(
            "groups",
            "Accuracy by group of classes",
            "; ".join(f"{said(key)}: {percent(share)}" for key, share in shares.items()),
            [Bar(said(key), share, styles[key]) for key, share in shares.items()],
            x_name="accuracy, % of a class's test images, mean over classes",
            form=percent,
            tick_form=per_cent,
            most=1,
        ),
        Table(columns, rows),
        "Every group is an unweighted mean over its classes; “all images” alone is a mean over images.",
    )


def classes_figure(content: RunContent) -> Figure:
    """Accuracy of each class against how often it was seen in training.

    Args:
        content: The run.

    Returns:
        A point per class.
    """
    metrics, counts = content.metrics, content.metrics.counts
    ranked, note = _thinned(counts.ranked)
    shot = _membership(metrics.shots.values(), counts.num_classes)
    known = [(int(index), share) for index in ranked if (share := metrics.per_class[index]) is not None]
    measured = [(float(counts.per_class[index]), share) for index, share in known]
    title = "Accuracy of each class by its training images"
    return Figure(
        "classes",
        title,
        scatter(
            "classes",
            title,
            f"One point for each of {counted(len(known), 'class', 'classes')} with test images.",
            [
                Point(
                    float(counts.per_class[index]),
                    share,
                    SHOT_STYLES[GROUPS[shot[index]]],
                    f"{shortened(metrics.classes[index], SHORT)}: {percent(share)}, "
                    f"{counted(int(counts.per_class[index]), 'training image')}",
                )
                for index, share in known
            ],
            groups=[(name, SHOT_STYLES[name]) for name in GROUPS],
            trend=_trend(measured),
            x_name="training images of the class",
            y_name="accuracy, % of the class's test images",
            form=per_cent,
        ),
        Table(
            ["class", "training images", "test images", "accuracy, %"],
            [
                [
                    metrics.classes[index],
                    whole(metrics.train_images[index]),
                    whole(metrics.test_images[index]),
                    points(metrics.per_class[index]),
                ]
                for index in ranked
            ],
            note=note,
        ),
        "The line joins the means of ten groups of classes, from the rarest to the most frequent."
        if _trend(measured)
        else "",
    )


def reliability_figure(metrics: Metrics) -> Figure:
    """Confidence against accuracy.

    Args:
        metrics: With at least one bin.

    Returns:
        A point per bin.
    """
    title = "Do its probabilities hold?"
    return Figure(
        "reliability",
        title,
        reliability(
            "reliability",
            title,
            f"Accuracy against confidence in {len(metrics.reliability)} bins. Expected calibration error "
            f"{points(metrics.ece)} points.",
            [Bin(one.low, one.high, one.images, one.confidence, one.accuracy) for one in metrics.reliability],
        ),
        Table(
            ["confidence from, %", "to, %", "test images", "mean confidence, %", "accuracy, %"],
            [
                [
                    points(one.low),
                    points(one.high),
                    whole(one.images),
                    points(one.confidence),
                    points(one.accuracy),
                ]
                for one in metrics.reliability
            ],
            words=0,
        ),
        f"On the diagonal, confidence is honest: above it the model is too timid, below it too sure. Expected "
        f"calibration error {points(metrics.ece)} points, under the prior “{metrics.prior}”.",
    )


def _thinned(ranked: IntArray) -> tuple[IntArray, str]:
    """Keep at most `MOST_CLASSES` classes, evenly by rank, and say so."""
    if ranked.size <= MOST_CLASSES:
        return ranked, ""
    kept = ranked[np.linspace(0, ranked.size - 1, MOST_CLASSES).round().astype(int)]
    said = f"{whole(MOST_CLASSES)} of {whole(ranked.size)} classes, evenly spaced by rank; metrics.json has all."
    return kept, said


def _every(epochs: Sequence[Epoch]) -> list[Epoch]:
    kept = np.linspace(0, len(epochs) - 1, min(len(epochs), MOST_EPOCHS)).round().astype(int)
    return [epochs[index] for index in kept]


def _membership(groups: Iterable[IntArray], num_classes: int) -> IntArray:
    """(C,) number of the group that each class is in."""
    member = np.zeros(num_classes, dtype=np.int64)
    for number, classes in enumerate(groups):
        member[classes] = number
    return member


def _tasks(metrics: Metrics) -> list[IntArray]:
    return [np.array(task) for task in metrics.tasks or []]


def _head_and_tail(metrics: Metrics) -> dict[str, IntArray]:
    tasks = _tasks(metrics)
    return {"head": tasks[0], "tail": tasks[-1]} if tasks else {}


def _trend(measured: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means over ten groups of classes by count, geometric for the counts; none for a few classes."""
    if len(measured) < FEWEST_FOR_TREND:
        return []
    parts = np.array_split(np.array(sorted(measured)), 10)
    means = {float(np.exp(np.log(part[:, 0]).mean())): float(part[:, 1].mean()) for part in parts}
    return list(means.items())
