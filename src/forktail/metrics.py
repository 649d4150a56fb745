"""How good scores are: accuracy by class and by group, likelihood, risk and calibration.

``N`` test images, ``C`` classes. Wherever the test set's own class frequencies could decide a number, the mean is taken
over classes instead of images, so that a long-tailed test set and a balanced one measure the same thing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.labels import ClassCounts, FloatArray, IntArray, TaskSplit


def evaluate_scores(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    counts: ClassCounts,
    split: TaskSplit,
    rule: str = "A",
    training_logits: npt.ArrayLike | None = None,
    likelihood_scores: npt.ArrayLike | None = None,
) -> dict[str, object]:
    """Measure everything that a report shows, ready for JSON: what cannot be computed is None, never nan.

    ``accuracy.balanced`` is the headline: the mean over classes of class accuracy. The groups of ``accuracy`` are
    unweighted means of class accuracies as well; ``micro`` alone is the mean over images. ``head`` and ``tail`` are the
    first and the last task of the split. ``nll`` is the mean over classes of class means. Classes without a test image
    are left out of every mean.

    Args:
        scores: (N, C) finite scores; softmax(scores) are the probabilities, under whatever prior was assumed.
        labels: (N,) class indices.
        counts: Training counts; they define the shot groups and the prior of ``risk``.
        split: The tasks.
        rule: Shot rule, see :meth:`forktail.labels.ClassCounts.shots`.
        training_logits: (N, C) adjusted logits of the training loss, z + logit pi, for ``risk``; None where the method
            does not train Bernoulli outputs.
        likelihood_scores: (N, C) scores under the prior under which ``nll`` is measured; None for ``scores``.

    Returns:
        ``accuracy`` (balanced, micro, many, medium, few, head, tail, worst), ``groups`` (rule, edges, classes per
        group), ``tasks`` (their classes), ``per_class``, ``macro_f1``, ``nll`` and ``risk`` in nats, ``ece``,
        ``reliability`` and ``confused``.

    Raises:
        InputError: Shapes that do not fit together, scores that are not finite, or labels out of range.

    Example:
        >>> counts, split = ClassCounts([200, 50, 5]), TaskSplit(([0, 1], [2]))
        >>> report = evaluate_scores(np.eye(3)[[0, 1, 1]], [0, 1, 2], counts, split)
        >>> report["accuracy"]["tail"], report["per_class"]
        (0.0, [1.0, 1.0, 0.0])
    """
    scores = _checked_scores(scores, counts, "scores")
    labels = _checked_labels(labels, scores)
    if split.num_classes != counts.num_classes:
        raise InputError(f"a task split of {split.num_classes} classes", expected=f"{counts.num_classes} classes")
    predictions = scores.argmax(axis=1)
    per_class = class_accuracy(predictions, labels, counts.num_classes)
    shots = counts.shots(rule)
    groups = {**shots.groups, "head": split.tasks[0], "tail": split.tasks[-1]}
    return {
        "accuracy": {
            "balanced": _json(np.nanmean(per_class)),
            "micro": _json(np.mean(predictions == labels)),
            **{name: group_accuracy(per_class, classes) for name, classes in groups.items()},
            "worst": _json(np.nanmin(per_class)),
        },
        "groups": {
            "rule": shots.rule,
            "edges": shots.edges,
            "classes": {name: int(classes.size) for name, classes in groups.items()},
        },
        "tasks": [task.tolist() for task in split.tasks],
        "per_class": [_json(value) for value in per_class],
        "macro_f1": macro_f1(predictions, labels, counts.num_classes),
        "nll": negative_log_likelihood(
            scores if likelihood_scores is None else _checked_scores(likelihood_scores, counts, "scores"), labels
        ),
        "risk": None
        if training_logits is None
        else bernoulli_risk(_checked_scores(training_logits, counts, "training logits"), labels, counts.prior),
        "ece": calibration_error(scores, labels),
        "reliability": reliability(scores, labels),
        "confused": most_confused(predictions, labels, counts.num_classes),
    }


def class_means(values: FloatArray, labels: IntArray, num_classes: int) -> FloatArray:
    """Average a value per image within each class.

    Args:
        values: (N,) one number per image.
        labels: (N,) class indices.
        num_classes: C.

    Returns:
        (C,) means, nan for a class without an image.

    Example:
        >>> class_means(np.array([1.0, 0.0, 3.0]), np.array([0, 0, 2]), 3)
        array([0.5, nan, 3. ])
    """
    images = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, weights=values, minlength=num_classes)
    means: FloatArray = np.divide(sums, images, out=np.full(num_classes, np.nan), where=images > 0)
    return means


def class_accuracy(predictions: IntArray, labels: IntArray, num_classes: int) -> FloatArray:
    """Share of each class's images that are classified as that class.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices.
        num_classes: C.

    Returns:
        (C,) in [0, 1], nan for a class without an image.

    Example:
        >>> class_accuracy(np.array([0, 1, 1]), np.array([0, 0, 1]), 3)
        array([0.5, 1. , nan])
    """
    return class_means((predictions == labels).astype(np.float64), labels, num_classes)


def group_accuracy(per_class: FloatArray, classes: IntArray) -> float | None:
    """Unweighted mean of class accuracies over a group of classes.

    Args:
        per_class: (C,) class accuracies, nan for a class without a test image.
        classes: Class indices of the group.

    Returns:
        The mean over those classes that have test images; None if there are none.

    Example:
        >>> group_accuracy(np.array([0.5, 1.0, np.nan]), np.array([0, 1, 2]))
        0.75
        >>> group_accuracy(np.array([0.5, 1.0, np.nan]), np.array([2])) is None
        True
    """
    known = per_class[classes][~np.isnan(per_class[classes])]
    return _json(known.mean()) if known.size else None


def macro_f1(predictions: IntArray, labels: IntArray, num_classes: int) -> float:
    """Unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN).

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices.
        num_classes: C.

    Returns:
        The mean over classes that have test images, in [0, 1].

    Example:
        >>> macro_f1(np.array([0, 1, 1]), np.array([0, 0, 1]), 2)
        0.6666666666666666
    """
    images = np.bincount(labels, minlength=num_classes)
    predicted = np.bincount(predictions, minlength=num_classes)
    hits = np.bincount(labels[predictions == labels], minlength=num_classes)
    present = images > 0
    return float(np.mean(2 * hits[present] / (images + predicted)[present]))


def negative_log_likelihood(scores: FloatArray, labels: IntArray) -> float:
    """Mean over classes of the class mean of -log softmax(scores)[label].

    Args:
        scores: (N, C) scores.
        labels: (N,) class indices.

    Returns:
        Nats per image of a test set in which the classes that occur are equally frequent.

    Example:
        >>> round(negative_log_likelihood(np.zeros((3, 2)), np.array([0, 0, 1])), 6)      # log 2
        0.693147
    """
    losses = _log_normaliser(scores) - _of_label(scores, labels)
    return float(np.nanmean(class_means(losses, labels, scores.shape[1])))


def bernoulli_risk(training_logits: FloatArray, labels: IntArray, prior: FloatArray) -> float:
    """Summed binary cross-entropy under the training distribution: the risk of which the criterion speaks.

    docs/theory.md, eq. 2: per image sum_c BCE(logit_c, 1[y = c]); the mean within each class; then the mean over
    classes weighted with the training prior, renormalised over the classes that occur.

    Args:
        training_logits: (N, C) adjusted logits z + logit pi.
        labels: (N,) class indices.
        prior: (C,) training prior, positive.

    Returns:
        Nats per image.

    Example:
        >>> risk = bernoulli_risk(np.zeros((2, 3)), np.array([0, 1]), np.array([0.5, 0.3, 0.2]))
        >>> round(risk, 6)                                                                # 3 log 2
        2.079442
    """
    losses = np.logaddexp(0, training_logits).sum(axis=1) - _of_label(training_logits, labels)
    means = class_means(losses, labels, prior.size)
    present = ~np.isnan(means)
    return float(np.average(means[present], weights=prior[present]))


def calibration_error(scores: FloatArray, labels: IntArray, num_bins: int = 15) -> float:
    """Expected calibration error of the most probable class.

    Guo et al. 2017, eq. 3: sum over bins of (images in the bin / N) |accuracy - mean confidence|, over equal bins
    (lo, hi] of the confidence max softmax(scores).

    Args:
        scores: (N, C) scores.
        labels: (N,) class indices.
        num_bins: Number of bins.

    Returns:
        A number in [0, 1].

    Example:
        >>> calibration_error(np.zeros((2, 2)), np.array([0, 0]))
        0.5
    """
    confidence, bins = _confidence_bins(scores, num_bins)
    gaps = np.bincount(bins, weights=(scores.argmax(axis=1) == labels) - confidence)
    return float(np.abs(gaps).sum() / labels.size)


def reliability(scores: FloatArray, labels: IntArray, num_bins: int = 15) -> list[dict[str, float | None]]:
    """Compare confidence and accuracy bin by bin, over the bins of `calibration_error`.

    Args:
        scores: (N, C) scores.
        labels: (N,) class indices.
        num_bins: Number of bins.

    Returns:
        Per bin its edges ``low`` and ``high``, its ``images``, and their mean ``confidence`` and ``accuracy``, both
        None where there are none.

    Example:
        >>> reliability(np.zeros((2, 2)), np.array([0, 1]), num_bins=2)[0]
        {'low': 0.0, 'high': 0.5, 'images': 2, 'confidence': 0.5, 'accuracy': 0.5}
    """
    confidence, bins = _confidence_bins(scores, num_bins)
    images = np.bincount(bins, minlength=num_bins)
    means = [
        class_means(values, bins, num_bins)
        for values in (confidence, (scores.argmax(axis=1) == labels).astype(np.float64))
    ]
    edges = np.linspace(0, 1, num_bins + 1)
    return [
        {
            "low": float(edges[number]),
            "high": float(edges[number + 1]),
            "images": int(images[number]),
            "confidence": _json(means[0][number]),
            "accuracy": _json(means[1][number]),
        }
        for number in range(num_bins)
    ]


def most_confused(
    predictions: IntArray, labels: IntArray, num_classes: int, most: int = 8, examples: int = 4
) -> list[dict[str, object]]:
    """Find the pairs of classes of which one is most often taken for the other.

    Pairs are ranked by the share of the true class's images, then by their number; a single image is no pattern, so
    pairs of one image come last.

    Args:
        predictions: (N,) class indices.
        labels: (N,) class indices.
        num_classes: C.
        most: How many pairs to return.
        examples: How many images to name for each.

    Returns:
        Per pair the ``true`` and the ``predicted`` class, how many ``images``, which ``share`` of the true class they
        are, and the ``positions`` of the first of them.

    Example:
        >>> most_confused(np.array([1, 1, 0]), np.array([0, 0, 0]), 2)
        [{'true': 0, 'predicted': 1, 'images': 2, 'share': 0.6666666666666666, 'positions': [0, 1]}]
    """
    wrong = np.flatnonzero(predictions != labels)
    pairs, images = np.unique(labels[wrong] * num_classes + predictions[wrong], return_counts=True)
    share = images / np.bincount(labels, minlength=num_classes)[pairs // num_classes]
    worst = np.lexsort((pairs, -images, -share, images == 1))[:most]
    return [
        {
            "true": int(true := pairs[rank] // num_classes),
            "predicted": int(predicted := pairs[rank] % num_classes),
            "images": int(images[rank]),
            "share": float(share[rank]),
            "positions": np.flatnonzero((labels == true) & (predictions == predicted))[:examples].tolist(),
        }
        for rank in worst
    ]


def _confidence_bins(scores: FloatArray, num_bins: int) -> tuple[FloatArray, IntArray]:
    """(N,) probability of the most probable class, and the bin (lo, hi] that it falls into."""
    confidence = np.exp(scores.max(axis=1) - _log_normaliser(scores))
    return confidence, np.digitize(confidence, np.linspace(0, 1, num_bins + 1)[1:-1], right=True)


def _log_normaliser(scores: FloatArray) -> FloatArray:
    """(N,) log sum_c exp(scores_c), safe for scores of any size."""
    largest = scores.max(axis=1)
    return np.asarray(largest + np.log(np.exp(scores - largest[:, None]).sum(axis=1)))


def _of_label(values: FloatArray, labels: IntArray) -> FloatArray:
    return np.take_along_axis(values, labels[:, None], axis=1)[:, 0]


def _json(value: np.floating | float) -> float | None:
    return None if np.isnan(value) else float(value)


def _checked_scores(given: npt.ArrayLike, counts: ClassCounts, name: str) -> FloatArray:
    values = np.asarray(given, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != counts.num_classes or values.shape[0] == 0:
        raise InputError(f"{name} of shape {values.shape}", expected=f"(images >= 1, {counts.num_classes} classes)")
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise InputError(f"{name} of image {int(np.argmax(bad))} are not finite", expected="finite numbers")
    return values


def _checked_labels(given: npt.ArrayLike, scores: FloatArray) -> IntArray:
    labels = np.asarray(given)
    num_images, num_classes = scores.shape
    if labels.shape != (num_images,) or labels.dtype.kind not in "iu":
        raise InputError(f"labels of shape {labels.shape}, {labels.dtype}", expected=f"({num_images},) whole numbers")
    if labels.min() < 0 or labels.max() >= num_classes:
        image = int(np.argmax((labels < 0) | (labels >= num_classes)))
        raise InputError(
            f"label {labels[image]} of image {image}", expected=f"a class that training has, 0 to {num_classes - 1}"
        )
    return labels.astype(np.int64)
