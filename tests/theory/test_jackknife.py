"""Equation numbers are those of docs/theory.md."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from forktail.errors import InputError
from forktail.theory import UnitMoments, criterion_table, jackknife, select
from forktail.theory.jackknife import TERMS, delete_one_group, student_t

GROUPS = 8
N = 300.0
WEIGHTS = np.array([[0.3, 0.7], [0.5, 0.5], [0.7, 0.3]])


def test_the_mean_of_equal_groups_has_the_textbook_error(rng):
    groups = rng.normal(size=(8, 5))
    found = delete_one_group(
        groups.mean(axis=0), [np.delete(groups, g, axis=0).mean(axis=0) for g in range(8)], np.ones(8)
    )
    np.testing.assert_allclose(found.value, groups.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.error, groups.std(axis=0, ddof=1) / np.sqrt(8), rtol=1e-12)


def test_equal_groups_give_the_plain_formula(rng):
    whole, parts = rng.normal(size=3), rng.normal(size=(8, 3))
    found = delete_one_group(whole, list(parts), np.full(8, 40.0))
    np.testing.assert_allclose(found.value, 8 * whole - 7 * parts.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        found.error, np.sqrt(7 / 8 * ((parts - parts.mean(axis=0)) ** 2).sum(axis=0)), rtol=1e-12
    )


def test_the_first_order_bias_is_taken_out_also_with_unequal_groups(rng):
    """The variance of N numbers divided by N is too small by a factor (N - 1) / N, which the jackknife removes."""
    images = rng.normal(size=6)
    found = delete_one_group(images.var(), [np.delete(images, g).var() for g in range(6)], np.ones(6))
    np.testing.assert_allclose(found.value, images.var(ddof=1), rtol=1e-12)
    sizes = np.array([30, 50, 40, 60, 20, 45])
    cuts = np.split(np.arange(sizes.sum()), np.cumsum(sizes)[:-1])
    draws = rng.exponential(size=(4000, sizes.sum()))
    whole = draws.mean(axis=1) ** 2
    parts = [np.delete(draws, cut, axis=1).mean(axis=1) ** 2 for cut in cuts]
    truth, found = 1.0, delete_one_group(whole, parts, sizes.astype(float))
    np.testing.assert_allclose(np.mean(whole - found.value), 1 / sizes.sum(), rtol=0.1)  # the variance of the mean
    low, high = found.interval()
    np.testing.assert_allclose(np.mean((low < truth) & (truth < high)), 0.95, atol=0.03)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (5, 2.5706), (7, 2.3646), (8, 2.3060), (100, 1.9840)]
)
def test_quantiles_are_those_of_the_tables(freedom, quantile):
    np.testing.assert_allclose(student_t(0.975, freedom), quantile, atol=6e-5)


@pytest.fixture(scope="module")
def simulation():
    """120 times 8 groups of 15 images: the true table, and each time the table and its replicates.

    Three units of 30 parameters. Each image has a curvature and gradients of both tasks, correlated; positions are
    known. The criterion is far from linear in the moments, so it is biased by a good part of its own standard error.
    """
    rng = np.random.default_rng(3)
    d, images, times = 30, 15, 120
    roots = rng.normal(size=(3, d, 2, 2)) + 1.5 * np.eye(2)  # unit, coordinate
    H = 1 + np.exp(rng.normal(size=(3, 2, d)))
    positions = rng.normal(size=(3, 2, d)) * np.array([0.03, 0.08, 0.13]).reshape(3, 1, 1)
    silent = [UnitMoments(*[np.ones((1, 1))] * 4)] * 2

    def table(curvature, covariance):
        units = []
        for h, moments, position in zip(curvature, covariance, positions, strict=True):
            units.append(UnitMoments(h, np.einsum("dkk->kd", moments), h, position, moments.transpose(1, 2, 0)))
        return criterion_table(units, silent, weights=WEIGHTS, n=[N, N])

    def without(groups):
        return (groups.sum(axis=0) - groups) / (GROUPS - 1)

    tables = []
    for _ in range(times):
        g = np.einsum("udkj,gnudj->gnudk", roots, rng.normal(size=(GROUPS, images, 3, d, 2)))
        squares = np.einsum("gnudj,gnudk->gudjk", g, g) / images
        curvatures = H * rng.gamma(1.0, size=(GROUPS, images, 3, 2, d)).mean(axis=1)
        replicates = [table(*pair) for pair in zip(without(curvatures), without(squares), strict=True)]
        tables.append(jackknife(table(curvatures.mean(axis=0), squares.mean(axis=0)), replicates))
    return table(H, roots @ roots.swapaxes(-1, -2)), tables


def coverage(intervals, truth):
    return np.mean([(low <= truth) & (truth <= high) for low, high in intervals], axis=0)


@pytest.mark.parametrize("term", TERMS)
def test_intervals_of_terms_hold_the_truth_95_times_in_100(simulation, term):
    truth, found = simulation
    measured = found[0].term(term).error > 1e-12  # the decoders' moments are known here
    held = coverage([one.term(term).interval() for one in found], getattr(truth, term))
    assert measured.sum() >= 6
    np.testing.assert_allclose(held[measured], 0.95, atol=0.06)


def test_intervals_of_differences_hold_the_truth_95_times_in_100(simulation):
    truth, found = simulation
    held = coverage([one.difference(1, 1).interval() for one in found], truth.total - truth.total[1, 1])
    assert held[1, 1] == 1.0
    np.testing.assert_allclose(np.delete(held.ravel(), 4), 0.95, atol=0.06)


def test_the_bias_of_plug_in_moments_is_taken_out(simulation):
    """Eq. 25; summed over millions of parameters such a bias would outgrow the standard error."""
    truth, found = simulation
    plug_in = np.array([one.table.shared_bias[1:] for one in found]) - truth.shared_bias[1:]
    corrected = np.array([one.term("shared_bias").value[1:] for one in found]) - truth.shared_bias[1:]
    error = plug_in.std(axis=0) / np.sqrt(len(found))
    np.testing.assert_array_less(3 * error, np.abs(plug_in.mean(axis=0)))
    np.testing.assert_array_less(np.abs(corrected.mean(axis=0)), 2.5 * error)


def test_the_true_best_cell_is_among_those_not_distinguished(simulation):
    truth, found = simulation
    best = select(truth).best
    picked = [select(one.table, uncertainty=one) for one in found]
    held = [
        (best.depth, best.weights) in {(cell.depth, cell.weights) for cell in (each.best, *each.not_distinguishable)}
        for each in picked
    ]
    assert np.mean(held) > 0.93
    assert 0 < np.mean([len(each.not_distinguishable) for each in picked]) < truth.total.size - 1


def small_table(total):
    total = np.asarray(total, dtype=float)
    unit, silent = UnitMoments(*[np.ones((2, 1))] * 4), [UnitMoments(*[np.ones((1, 1))] * 4)] * 2
    table = criterion_table([unit] * len(total), silent, weights=WEIGHTS, n=[N, N])
    return dataclasses.replace(
        table, shared_variance=total, shared_bias=np.zeros_like(total), own_variance=np.zeros_like(total)
    )


def test_the_choice_is_said_in_words(rng):
    total = np.array([[5.0, 5, 5], [2, 1, 2], [3, 1.01, 1.02], [9, 9, 9]])
    noise = [rng.normal(scale=0.02, size=total.shape) * (total < 1.5) for _ in range(8)]
    replicates = [small_table(total + each - np.mean(noise, axis=0)) for each in noise]
    found = select(small_table(total), uncertainty=jackknife(small_table(total), replicates))
    assert found.sentence == "depth 1, weight 0.5; not distinguishable from depths 1 to 2, weights 0.5 to 0.7"
    assert found.to_json()["not_distinguishable"] == [[2, 0.5], [2, 0.7]]
    assert found.to_json()["sentence"] == found.sentence
    pinned = select(small_table(total), depths=[1], uncertainty=jackknife(small_table(total), replicates))
    assert pinned.sentence == "depth 1, weight 0.5; every other cell is shown to be worse"
    assert select(small_table(total)).sentence == "depth 1, weight 0.5"


def test_where_nothing_else_was_allowed_nothing_is_said_to_be_worse():
    total = np.array([[1.0, 1, 1], [2, 2, 3]])
    unsure = jackknife(small_table(total), [small_table(total)] * 8)
    found = select(small_table(total), depths=[1], weights=[0.3], uncertainty=unsure)
    assert found.sentence == "depth 1, weight 0.3"
    assert select(small_table(total), depths=[0], uncertainty=unsure).sentence == "depth 0, weight 0.5"


def test_rows_are_the_tables_with_the_error_of_every_term(rng):
    whole, *parts = (small_table(rng.normal(size=(2, 3))) for _ in range(9))
    found = list(jackknife(whole, parts).rows())
    for row, plain in zip(found, whole.rows(), strict=True):
        assert list(row) == [*plain, *(f"{term}_error" for term in TERMS)]
        assert {name: row[name] for name in plain} == plain
        column = [0.3, 0.5, 0.7].index(plain["weight"])
        totals = np.array([part.total[plain["depth"], column] for part in parts])
        expected = np.sqrt(7 / 8 * ((totals - totals.mean()) ** 2).sum())
        np.testing.assert_allclose([row["total_error"], row["own_variance_error"]], [expected, 0], rtol=1e-12, atol=0)


def test_sharing_nothing_is_one_cell_whatever_the_weight():
    total = np.array([[1.0, 1, 1], [2, 2, 3]])
    found = select(small_table(total), uncertainty=jackknife(small_table(total), [small_table(total)] * 8))
    assert found.depth == 0
    assert found.not_distinguishable == ()
    alike = np.ones((2, 3))
    found = select(small_table(alike), uncertainty=jackknife(small_table(alike), [small_table(alike)] * 8))
    assert found.sentence == "depth 1, weight 0.5; not distinguishable from depths 0 to 1, weights 0.3 to 0.7"


def test_what_does_not_fit_is_refused():
    table, other = small_table(np.ones((2, 3))), small_table(np.ones((3, 3)))
    with pytest.raises(InputError, match="1 replicates; expected at least 2 groups"):
        jackknife(table, [table])
    with pytest.raises(InputError, match="replicate 1 has other cells"):
        jackknife(table, [table, other])
    with pytest.raises(InputError, match="expected a positive number for each of 2 groups"):
        jackknife(table, [table, table], sizes=[3, 0])
