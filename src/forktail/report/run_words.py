"""A run in plain words: what was chosen and why, how good it is, and what to distrust."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from markupsafe import Markup

from forktail.labels import IntArray
from forktail.report.names import isolated
from forktail.report.numbers import counted, listed, percent, points, significant, weight, whole
from forktail.report.run_files import Criterion, Metrics, RunContent

NOTABLE_CHANCE = 0.025  # standard error of a group's accuracy, from which it is said
NOTABLE_CALIBRATION = 0.1
NOTABLE_FLATNESS = 0.1
MANY_PARAMETERS = (
    10  # for each training image: variance terms, each up to 1/n, then add up to more than differences are
)


def summary(content: RunContent) -> Markup:
    """Say what was chosen and why, and how good it is.

    Args:
        content: The run.

    Returns:
        One paragraph.
    """
    return Markup(" ").join([_what(content), _choice(content), *_how_good(content.metrics)])


def distrust(content: RunContent) -> list[Markup]:
    """Say what does not bear much weight.

    Args:
        content: The run.

    Returns:
        Sentences, the weightiest first; the last one holds for every run.
    """
    return [
        *(_doubts_of_choice(content, content.criterion) if content.criterion else []),
        *_doubts_of_groups(content.metrics),
        *_doubts_of_probabilities(content.metrics),
        _one_seed(content),
    ]


def standard_error(metrics: Metrics, classes: IntArray | None = None) -> float | None:
    """Bound how far the choice of test images may move a mean of class accuracies.

    With n_c test images of each of K classes, sqrt(sum_c p_c (1 - p_c) / n_c) / K, where p (1 - p) is at most 1/4.

    Args:
        metrics: The metrics.
        classes: The classes of the mean; None is all.

    Returns:
        The bound as a share; None without a test image.
    """
    images = np.array(metrics.test_images)[slice(None) if classes is None else classes]
    tested = images[images > 0]
    return float(0.5 * np.sqrt((1 / tested).sum()) / tested.size) if tested.size else None


def _what(content: RunContent) -> Markup:
    counts = content.metrics.counts
    return Markup(
        "{} learned {} of {} from {}: {} of the most frequent class, {} of the rarest (imbalance {})."
    ).format(
        isolated(content.settings.method.name),
        counted(counts.num_classes, "class", "classes"),
        isolated(content.environment.data.name),
        counted(counts.total, "training image"),
        whole(int(counts.per_class.max())),
        whole(int(counts.per_class.min())),
        significant(counts.imbalance),
    )


def _choice(content: RunContent) -> Markup:
    criterion = content.criterion
    if criterion is None:
        return Markup("It chooses no shared depth and no task weight.")
    choice, method = criterion.choice, content.settings.method
    cell = Markup("{}, with weight {} for the head task and {} for the tail").format(
        depth_in_words(choice.depth, criterion.num_units), weight(choice.weight), weight(1 - choice.weight)
    )
    set_by_hand = [name for name, value in (("depth", method.depth), ("weight", method.weight)) if value is not None]
    if len(set_by_hand) == 2:
        return Markup("Depth and weight were set by hand: {}.").format(cell)
    against = ""
    if choice.runner_up is not None:
        best_other = choice.runner_up
        against = f", against {significant(best_other.value)} at depth {best_other.depth}, the best other depth"
    by_hand = f" The {set_by_hand[0]} was set by hand." if set_by_hand else ""
    return Markup(
        "Its criterion chose to {}, because it predicts the smallest excess risk there: {} nats per image{}.{}{}"
    ).format(cell, significant(choice.value), against, _how_sure(criterion), by_hand)


def _how_sure(criterion: Criterion) -> str:
    choice, groups = criterion.choice, len(criterion.facts.groups)
    if not choice.how_sure:
        return ""
    if not choice.not_distinguishable:
        return f" By their standard errors over {groups} groups of images, all other cells are worse."
    return f" By its standard error over {groups} groups of images, this choice is {choice.how_sure}."


def depth_in_words(depth: int, units: int) -> str:
    """Say what a shared depth means.

    Args:
        depth: s.
        units: L.

    Returns:
        The end of "chose to ...".

    Example:
        >>> depth_in_words(0, 6), depth_in_words(6, 6), depth_in_words(2, 6)
        ('share nothing', 'share the whole trunk (depth 6 of 6)', 'share the stem and the first 2 of 6 units')
    """
    if depth == 0:
        return "share nothing"
    if depth == units:
        return f"share the whole trunk (depth {depth} of {units})"
    return f"share the stem and the first {depth} of {units} units"


def _how_good(metrics: Metrics) -> Iterable[Markup]:
    accuracy = metrics.accuracy
    shots = [
        f"{percent(share)} for classes with {name} training images" if name != "medium" else f"{percent(share)} between"
        for name, share in (("many", accuracy.many), ("medium", accuracy.medium), ("few", accuracy.few))
        if share is not None
    ]
    yield Markup("On {} of the {} part it is right on {} of a class, averaged over classes{}.").format(
        counted(sum(metrics.test_images), "image"),
        isolated(metrics.evaluated_on),
        percent(accuracy.balanced),
        f": {listed(shots)}" if shots else "",
    )
    never = sum(share == 0 for share in metrics.per_class)
    tested = sum(share is not None for share in metrics.per_class)
    if never:
        yield Markup("{} of {} {} never recognised.").format(
            whole(never), counted(tested, "class", "classes"), "is" if never == 1 else "are"
        )


def _doubts_of_choice(content: RunContent, criterion: Criterion) -> Iterable[Markup]:
    choice, facts = criterion.choice, criterion.facts
    if choice.not_distinguishable:
        share = len(choice.equals) / len(choice.alike) * choice.flatness
        yield Markup(
            "The images do not show the chosen cell to be the best. With it, {} ({} of those allowed) cannot be told "
            "apart{}."
        ).format(counted(len(choice.equals), "cell"), percent(share), _where(choice.equals))
    if choice.not_distinguishable is None and len(choice.alike) > 1:
        found = "The criterion is flat" if choice.flatness >= NOTABLE_FLATNESS else "The choice has equals"
        yield Markup("{}: {} ({} of those allowed) lie within 1 % of the table's range of the best{}.").format(
            found,
            counted(len(choice.alike), "cell"),
            percent(choice.flatness),
            _where(choice.alike),
        )
    if facts.reading == "sandwich" and facts.damping == 0 and content.settings.method.weight is None:
        yield Markup(
            "The reading “sandwich” without damping selects weight 0.5 whatever the data are (docs/theory, section 6): "
            "the data chose the depth alone."
        )
    parameters = sum(unit.parameters for unit in facts.units) / max(facts.images, 1)
    everything = choice.depth == criterion.num_units and content.settings.method.depth is None
    if everything and parameters >= MANY_PARAMETERS:
        yield Markup(
            "There are {} parameters for each training image, so the criterion's variance terms outweigh all others. "
            "In every grid of docs/evidence, which trained several depths, the default reading chose to share the "
            "whole trunk, also where sharing nothing was better: the chosen depth is no finding about these data."
        ).format(significant(parameters))
    bias = criterion.terms[choice.depth][criterion.column(choice.weight)].shared_bias
    if facts.debiased and bias < 0:
        yield Markup(
            "The bias term is negative ({} nats): the measured mismatch is smaller than the sampling noise that is "
            "subtracted from it, so the run does not show how well the tasks agree."
        ).format(significant(bias))
    yield from _doubts_of_optimum(criterion)


def _where(cells: list[tuple[int, float]]) -> str:
    depths, weights = zip(*cells, strict=True)
    low, high = min(depths), max(depths)
    if low != high:
        return f", at depths {low} to {high}"
    return f": at depth {low} it hardly matters which weight from {weight(min(weights))} to {weight(max(weights))}"


def _doubts_of_optimum(criterion: Criterion) -> Iterable[Markup]:
    """Compare the mean gradients with the noise of N images, sqrt(tr S / N), which the criterion reckons with."""
    facts = criterion.facts
    if facts.fisher_at != "stage1":
        return  # the gradients are those of another place, where nobody supposes an optimum
    found = listed([significant(norm) for norm in facts.mean_gradient_norms])
    said = Markup(
        "Stage 1 stopped before its optimum, where the criterion supposes it: the mean gradients of head and tail have "
        "length {} (nats per unit of distance){}."
    )
    if facts.units:
        scores = np.array([unit.scores for unit in facts.units]).sum(axis=0)
        noise = np.sqrt(np.maximum(scores, 0) / max(facts.images, 1))
        if np.any(np.array(facts.mean_gradient_norms) > noise):
            known = listed([significant(float(length)) for length in noise])
            yield said.format(found, f", where the sampling noise of {counted(facts.images, 'image')} has {known}")
    elif any(facts.mean_gradient_norms):
        yield said.format(found, "")


def _doubts_of_groups(metrics: Metrics) -> Iterable[Markup]:
    for name, classes in metrics.shots.items():
        edges = metrics.groups.edge(name)
        if not classes.size:
            yield Markup("No class falls into the group “{}” ({}), so it has no figure.").format(name, edges)
            continue
        chance = standard_error(metrics, classes)
        images = int(np.array(metrics.test_images)[classes].sum())
        if chance is None:
            yield Markup("No class of the group “{}” ({}) has a test image, so it has no figure.").format(name, edges)
        elif chance > NOTABLE_CHANCE:
            yield Markup(
                "The figure for “{}” rests on {} of {}: chance alone may move it by up to {} points "
                "(one standard error)."
            ).format(
                name,
                counted(images, "test image"),
                counted(int(classes.size), "class", "classes"),
                points(chance),
            )
    untested = sum(images == 0 for images in metrics.test_images)
    if untested:
        yield Markup("{} without a test image {} left out of every mean.").format(
            counted(untested, "class", "classes"), "is" if untested == 1 else "are"
        )


def _doubts_of_probabilities(metrics: Metrics) -> Iterable[Markup]:
    bins = [one for one in metrics.reliability if one.confidence is not None]
    images = sum(one.images for one in bins)
    if metrics.ece <= NOTABLE_CALIBRATION or not images:
        return
    confidence = sum(one.images * (one.confidence or 0) for one in bins) / images
    accuracy = sum(one.images * (one.accuracy or 0) for one in bins) / images
    yield Markup(
        "Do not read its scores as probabilities: on average it claims {} and is right on {} of the test images, "
        "it is too {} (expected calibration error {} points)."
    ).format(percent(confidence), percent(accuracy), "sure" if confidence > accuracy else "timid", points(metrics.ece))


def _one_seed(content: RunContent) -> Markup:
    chance = standard_error(content.metrics)
    other = f", and other test images by up to {points(chance)} points (one standard error)" if chance else ""
    return Markup(
        "This is one run with one seed ({}). Another seed would move every figure by an unknown amount{}."
    ).format(content.settings.seed, other)
