from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktail.errors import InputError
from forktail.labels import SHOT_RULES, ClassCounts, TaskSplit, by_groups, by_mass, by_rank, by_threshold

COUNTS = st.lists(st.integers(1, 500), min_size=2, max_size=40).map(ClassCounts)


def cifar_100(imbalance: int) -> ClassCounts:
    return ClassCounts([int(500 * imbalance ** (-c / 99)) for c in range(100)])


def as_lists(split: TaskSplit) -> list[list[int]]:
    return [task.tolist() for task in split.tasks]


def test_counts_give_prior_total_and_imbalance():
    counts = ClassCounts(np.array([6, 3, 1], dtype=np.uint8))
    assert (counts.num_classes, counts.total, counts.imbalance) == (3, 10, 6.0)
    np.testing.assert_array_equal(counts.prior, [0.6, 0.3, 0.1])
    assert counts.per_class.dtype == np.int64


def test_counts_are_a_frozen_copy():
    given = np.array([3, 2])
    counts = ClassCounts(given)
    given[0] = 99
    np.testing.assert_array_equal(counts.per_class, [3, 2])
    with pytest.raises(ValueError, match="read-only"):
        counts.per_class[0] = 7


@pytest.mark.parametrize(
    ("per_class", "message"),
    [
        ([3, 2, 0, 4], r"class 2 has 0 training images; expected at least 1"),
        ([3, -1], r"class 1 has -1 training images"),
        ([3], r"shape \(1,\); expected one count for each of at least 2 classes"),
        ([[3, 2]], r"shape \(1, 2\)"),
        ([3.0, 2.0], r"type float64; expected whole numbers"),
        ([], r"shape \(0,\)"),
    ],
)
def test_bad_counts_are_refused(per_class, message):
    with pytest.raises(InputError, match=message):
        ClassCounts(per_class)


@pytest.mark.parametrize(
    ("rule", "many", "medium", "few"),
    [
        ("A", [0], [1, 2, 3, 4], [5]),
        ("B", [0, 1], [2, 3], [4, 5]),
        ("C", [0], [1, 2, 3], [4, 5]),
        ("quantile", [0, 1], [2, 3], [4, 5]),
    ],
)
def test_shot_rules_differ_at_the_edges(rule, many, medium, few):
    shots = ClassCounts([101, 100, 99, 21, 20, 19]).shots(rule)
    np.testing.assert_array_equal(shots.many, many)
    np.testing.assert_array_equal(shots.medium, medium)
    np.testing.assert_array_equal(shots.few, few)
    assert shots.rule == rule
    assert set(shots.edges) == set(shots.groups) == {"many", "medium", "few"}


@pytest.mark.parametrize(
    ("imbalance", "rule", "sizes"),
    [
        (100, "A", (35, 35, 30)),
        (100, "B", (35, 34, 31)),
        (50, "A", (41, 41, 18)),
        (50, "B", (41, 40, 19)),
        (10, "A", (69, 31, 0)),
        (10, "B", (70, 30, 0)),
    ],
)
def test_shots_of_long_tailed_cifar_100(imbalance, rule, sizes):
    shots = cifar_100(imbalance).shots(rule)
    assert tuple(group.size for group in shots.groups.values()) == sizes


def test_unknown_shot_rule_names_the_known_ones():
    with pytest.raises(InputError, match='did you mean "quantile"'):
        ClassCounts([3, 2]).shots("quantiles")


@given(counts=COUNTS, rule=st.sampled_from(SHOT_RULES))
def test_shots_partition_the_classes_by_frequency(counts, rule):
    shots = counts.shots(rule)
    together = np.concatenate(list(shots.groups.values()))
    np.testing.assert_array_equal(np.sort(together), np.arange(counts.num_classes))
    sizes = [counts.per_class[group] for group in shots.groups.values() if group.size]
    assert all(larger.min() >= smaller.max() for larger, smaller in pairwise(sizes))


def test_by_rank_is_the_papers_split():
    split = by_rank(ClassCounts([7, 9, 7, 1, 7]))
    assert as_lists(split) == [[1, 0, 2], [4, 3]]  # ties to the lower index, ceil(5 / 2) in the head
    assert as_lists(by_rank(ClassCounts([1, 2, 3, 4, 5, 6, 7]), parts=3)) == [[6, 5, 4], [3, 2], [1, 0]]


def test_ties_in_rank_go_to_the_lower_index_among_many_classes():
    np.testing.assert_array_equal(ClassCounts([5] * 60).ranked, np.arange(60))
    np.testing.assert_array_equal(ClassCounts([5, 6] * 60).ranked, [*range(1, 120, 2), *range(0, 120, 2)])


def test_by_mass_balances_images():
    assert as_lists(by_mass(ClassCounts([60, 20, 10, 10]))) == [[0], [1, 2, 3]]
    assert as_lists(by_mass(ClassCounts([50, 30, 10, 10]))) == [[0], [1, 2, 3]]  # exactly half counts as reached
    assert as_lists(by_mass(ClassCounts([40, 30, 20, 10]))) == [[0, 1], [2, 3]]


def test_by_mass_leaves_a_class_to_every_task():
    assert as_lists(by_mass(ClassCounts([1000, 1, 1, 1]), parts=3)) == [[0], [1], [2, 3]]
    assert as_lists(by_mass(ClassCounts([5, 5]), parts=2)) == [[0], [1]]


def test_by_threshold_bounds_are_inclusive():
    counts = ClassCounts([5, 100, 20, 300])
    assert as_lists(by_threshold(counts, 100)) == [[3, 1], [2, 0]]
    assert as_lists(by_threshold(counts, 100, 20)) == [[3, 1], [2], [0]]


def test_by_threshold_refuses_what_makes_no_tasks():
    counts = ClassCounts([5, 100, 20, 300])
    with pytest.raises(InputError, match="task 0 of shape"):
        by_threshold(counts, 1000)
    with pytest.raises(InputError, match="strictly descending"):
        by_threshold(counts, 20, 100)
    with pytest.raises(InputError, match="at least one number"):
        by_threshold(counts)


def test_by_groups_drops_an_empty_group():
    assert as_lists(by_groups(ClassCounts([5, 200, 50, 3]))) == [[1], [2], [0, 3]]
    assert as_lists(by_groups(ClassCounts([200, 30, 300]))) == [[2, 0], [1]]
    with pytest.raises(InputError, match="all 2 classes fall into one group"):
        by_groups(ClassCounts([300, 200]))


@pytest.mark.parametrize("rule", [by_rank, by_mass])
def test_parts_must_fit_the_classes(rule):
    for parts in (0, 4):
        with pytest.raises(InputError, match="expected between 1 and the 3 classes"):
            rule(ClassCounts([3, 2, 1]), parts=parts)


@given(counts=COUNTS, data=st.data())
def test_splits_are_complete_and_descend(counts, data):
    parts = data.draw(st.integers(1, counts.num_classes))
    for split in (by_rank(counts, parts), by_mass(counts, parts)):
        assert split.num_tasks == parts
        assert split.num_classes == counts.num_classes
        np.testing.assert_array_equal(np.concatenate(split.tasks), counts.ranked)


def test_order_restores_class_order():
    split = TaskSplit(([4, 1], [3], [0, 2]))
    outputs = np.concatenate([10 * task for task in split.tasks])
    np.testing.assert_array_equal(outputs[split.order], [0, 10, 20, 30, 40])


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (([0, 1], [1, 2]), "class 1 stands in 2 tasks"),
        (([0], [2]), "class 1 stands in 0 tasks"),
        (([0, 1], []), "task 1 of shape"),
        (([0, -1],), "whole numbers from 0 upwards"),
        (([0.0, 1.0],), "whole numbers from 0 upwards"),
        ((), "without tasks"),
    ],
)
def test_bad_splits_are_refused(tasks, message):
    with pytest.raises(InputError, match=message):
        TaskSplit(tasks)
