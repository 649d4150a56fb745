from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics as oracle

from forktail.errors import InputError
from forktail.labels import ClassCounts, TaskSplit, by_rank
from forktail.metrics import (
    bernoulli_risk,
    calibration_error,
    class_accuracy,
    class_means,
    evaluate_scores,
    group_accuracy,
    macro_f1,
    most_confused,
    negative_log_likelihood,
    reliability,
)

COUNTS = ClassCounts([300, 150, 90, 40, 12, 3])
SPLIT = by_rank(COUNTS)


@pytest.fixture
def test_set():
    """Scores and labels of 200 images of 5 of the 6 classes, unevenly."""
    rng = np.random.default_rng(3)
    labels = rng.choice(5, size=200, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    scores = 2 * rng.normal(size=(200, 6)) + 3 * np.eye(6)[labels]
    return scores, labels


def test_accuracies_agree_with_sklearn(test_set):
    scores, labels = test_set
    report = evaluate_scores(scores, labels, COUNTS, SPLIT)
    predictions = scores.argmax(axis=1)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = oracle.balanced_accuracy_score(labels, predictions)
    np.testing.assert_allclose(report["accuracy"]["balanced"], balanced, rtol=1e-14)
    np.testing.assert_allclose(report["accuracy"]["micro"], oracle.accuracy_score(labels, predictions), rtol=1e-14)
    f1 = oracle.f1_score(labels, predictions, labels=np.unique(labels), average="macro")
    np.testing.assert_allclose(report["macro_f1"], f1, rtol=1e-14)


def test_groups_are_means_of_class_accuracies(test_set):
    scores, labels = test_set
    report = evaluate_scores(scores, labels, COUNTS, SPLIT)
    accuracy, per_class = report["accuracy"], report["per_class"]
    assert per_class[5] is None
    assert accuracy["many"] == pytest.approx(np.mean(per_class[:2]), rel=1e-14)
    assert accuracy["medium"] == pytest.approx(np.mean(per_class[2:4]), rel=1e-14)
    assert accuracy["few"] == per_class[4]  # class 5 has no test image
    assert accuracy["head"] == pytest.approx(np.mean(per_class[:3]), rel=1e-14)
    assert accuracy["tail"] == pytest.approx(np.mean(per_class[3:5]), rel=1e-14)
    assert accuracy["worst"] == min(per_class[:5])
    assert report["groups"] == {
        "rule": "A",
        "edges": {"many": "n > 100", "medium": "20 <= n <= 100", "few": "n < 20"},
        "classes": {"many": 2, "medium": 2, "few": 2, "head": 3, "tail": 3},
    }


def test_head_and_tail_are_first_and_last_of_many_tasks(test_set):
    scores, labels = test_set
    report = evaluate_scores(scores, labels, COUNTS, by_rank(COUNTS, parts=3))
    assert report["accuracy"]["head"] == pytest.approx(np.mean(report["per_class"][:2]), rel=1e-14)
    assert report["accuracy"]["tail"] == report["per_class"][4]


def test_an_empty_group_is_none_and_the_report_is_json(test_set):
    scores, labels = test_set
    report = evaluate_scores(scores, labels, ClassCounts([300] * 6), SPLIT, training_logits=scores)
    assert report["accuracy"]["few"] is None
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_only_micro_and_calibration_depend_on_test_frequencies(test_set):
    scores, labels = test_set
    again = np.concatenate([np.arange(200), np.flatnonzero(labels == 0)])
    once = evaluate_scores(scores, labels, COUNTS, SPLIT, training_logits=scores)
    twice = evaluate_scores(scores[again], labels[again], COUNTS, SPLIT, training_logits=scores[again])
    for name in ("nll", "risk"):
        np.testing.assert_allclose(twice[name], once[name], rtol=1e-12)
    np.testing.assert_allclose(twice["accuracy"]["balanced"], once["accuracy"]["balanced"], rtol=1e-12)
    assert twice["accuracy"]["micro"] != once["accuracy"]["micro"]


def test_negative_log_likelihood_against_loops(test_set):
    scores, labels = test_set
    per_class: dict[int, list[float]] = {}
    for row, label in zip(scores, labels, strict=True):
        loss = math.log(sum(math.exp(score) for score in row)) - row[label]
        per_class.setdefault(label, []).append(loss)
    expected = np.mean([np.mean(losses) for losses in per_class.values()])
    np.testing.assert_allclose(negative_log_likelihood(scores, labels), expected, rtol=1e-12)


def test_risk_against_loops(test_set):
    logits, labels = test_set
    total = weight = 0.0
    for label in range(5):
        losses = []
        for row in logits[labels == label]:
            probabilities = [1 / (1 + math.exp(-z)) for z in row]
            losses.append(-sum(math.log(p if c == label else 1 - p) for c, p in enumerate(probabilities)))
        total += COUNTS.prior[label] * np.mean(losses)
        weight += COUNTS.prior[label]
    np.testing.assert_allclose(bernoulli_risk(logits, labels, COUNTS.prior), total / weight, rtol=1e-12)
    assert evaluate_scores(logits, labels, COUNTS, SPLIT)["risk"] is None


def test_risk_of_a_set_drawn_like_training_is_the_mean_over_images():
    counts = ClassCounts([6, 3, 1])
    labels = np.repeat(np.arange(3), counts.per_class)
    logits = np.random.default_rng(0).normal(size=(10, 3))
    targets = np.eye(3)[labels]
    losses = -(targets * np.log(1 / (1 + np.exp(-logits))) + (1 - targets) * np.log(1 / (1 + np.exp(logits)))).sum(1)
    np.testing.assert_allclose(bernoulli_risk(logits, labels, counts.prior), losses.mean(), rtol=1e-13)


def test_calibration_error_against_an_explicit_loop(test_set):
    scores, labels = test_set
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = 0.0
    for bin_ in range(15):
        inside = [
            (p.max(), p.argmax() == label)
            for p, label in zip(probabilities, labels, strict=True)
            if bin_ / 15 < p.max() <= (bin_ + 1) / 15
        ]
        if inside:
            confidence, hit = np.mean(inside, axis=0)
            expected += len(inside) / len(labels) * abs(hit - confidence)
    np.testing.assert_allclose(calibration_error(scores, labels), expected, rtol=1e-12)


def test_calibration_bins_include_their_upper_edge():
    """Confidences .5 (right) and .55 (wrong), two bins: (0, .5] misses by .5, (.5, 1] by .55."""
    scores = np.log([[0.5, 0.25, 0.25], [0.55, 0.25, 0.2]])
    scores[0] = [np.log(2), 0, 0]  # softmax exactly 1/2
    np.testing.assert_allclose(calibration_error(scores, np.array([0, 1]), num_bins=2), (0.5 + 0.55) / 2, rtol=1e-12)


def test_extreme_scores_stay_finite():
    scores = np.array([[1e4, -1e4], [-1e4, 1e4]])
    report = evaluate_scores(scores, [1, 1], ClassCounts([2, 1]), TaskSplit(([0], [1])), training_logits=scores)
    assert report["nll"] == 1e4
    assert report["risk"] == 1e4  # the first image: two logits wrong by 1e4 each; the second: none
    np.testing.assert_allclose(report["ece"], 0.5)


def test_small_functions_on_worked_numbers():
    labels, predictions = np.array([0, 0, 2]), np.array([0, 1, 2])
    np.testing.assert_array_equal(class_means(np.array([1.0, 3.0, 5.0]), labels, 3), [2.0, np.nan, 5.0])
    np.testing.assert_array_equal(class_accuracy(predictions, labels, 3), [0.5, np.nan, 1.0])
    assert group_accuracy(np.array([0.5, np.nan, 1.0]), np.array([0, 2])) == 0.75
    assert group_accuracy(np.array([0.5, np.nan, 1.0]), np.array([], dtype=np.int64)) is None
    np.testing.assert_allclose(macro_f1(predictions, labels, 3), (2 / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((3, 5)), [0, 1, 2], r"scores of shape \(3, 5\); expected \(images >= 1, 6 classes\)"),
        (np.zeros((0, 6)), [], r"scores of shape \(0, 6\)"),
        (np.full((2, 6), np.nan), [0, 1], "scores of image 0 are not finite"),
        (np.zeros((2, 6)), [0], r"labels of shape \(1,\)"),
        (np.zeros((2, 6)), [0.0, 1.0], "float64; expected"),
        (np.zeros((2, 6)), [0, 6], "label 6 of image 1; expected a class that training has, 0 to 5"),
    ],
)
def test_bad_input_is_refused(scores, labels, message):
    with pytest.raises(InputError, match=message):
        evaluate_scores(scores, labels, COUNTS, SPLIT)


def test_a_split_of_other_classes_is_refused():
    with pytest.raises(InputError, match="task split of 2 classes; expected 6 classes"):
        evaluate_scores(np.zeros((1, 6)), [0], COUNTS, TaskSplit(([0], [1])))


def test_reliability_against_an_explicit_loop():
    random = np.random.default_rng(3)
    scores, labels = 2 * random.normal(size=(200, 4)), random.integers(0, 4, 200)
    bins = reliability(scores, labels, num_bins=5)
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    for number, found in enumerate(bins):
        low, high = number / 5, (number + 1) / 5
        inside = [i for i in range(200) if low < confidence[i] <= high]
        assert (found["low"], found["high"], found["images"]) == (pytest.approx(low), pytest.approx(high), len(inside))
        assert found["confidence"] == (pytest.approx(np.mean(confidence[inside])) if inside else None)
        assert found["accuracy"] == (pytest.approx(np.mean(right[inside])) if inside else None)


def test_the_calibration_error_is_that_of_the_reliability_bins():
    random = np.random.default_rng(4)
    scores, labels = 3 * random.normal(size=(300, 6)), random.integers(0, 6, 300)
    gaps = [b["images"] * abs(b["accuracy"] - b["confidence"]) for b in reliability(scores, labels) if b["images"]]
    assert calibration_error(scores, labels) == pytest.approx(sum(gaps) / 300)


def test_confused_pairs_are_ranked_by_share_and_single_images_come_last():
    """Class 0 (4 images): three taken for 1. Class 1 (2 images): both for 2. Class 2 (1 image): one for 0."""
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    predictions = np.array([1, 0, 1, 1, 2, 2, 0])
    found = most_confused(predictions, labels, 3)
    assert [(pair["true"], pair["predicted"], pair["images"], pair["share"]) for pair in found] == [
        (1, 2, 2, 1.0),
        (0, 1, 3, 0.75),
        (2, 0, 1, 1.0),
    ]
    assert [pair["positions"] for pair in found] == [[4, 5], [0, 2, 3], [6]]
    assert [len(pair["positions"]) for pair in most_confused(predictions, labels, 3, most=2, examples=1)] == [1, 1]


def test_nothing_is_confused_where_all_is_right():
    assert most_confused(np.array([0, 1]), np.array([0, 1]), 2) == []


def test_the_likelihood_may_speak_of_another_prior_than_the_predictions():
    counts, split = ClassCounts([30, 3]), TaskSplit(([0], [1]))
    scores, uniform = np.array([[2.0, 0.0], [1.0, 0.0]]), np.zeros((2, 2))
    found = evaluate_scores(scores, [0, 1], counts, split, likelihood_scores=uniform)
    assert found["nll"] == pytest.approx(np.log(2))
    assert found["accuracy"]["micro"] == 0.5
    assert found["tasks"] == [[0], [1]]
