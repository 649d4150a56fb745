from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from forktail.errors import InputError
from forktail.grids.cells import Cells
from forktail.grids.measures import (
    MEASURES,
    Measured,
    correlation,
    differences,
    gain,
    oracle_regret,
    search_regret,
    searched,
    summary,
)

KINDS = ("spearman", "kendall")
CELLS = Cells((0, 3, 6), (0.25, 0.5, 0.75))

tied = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12)


def ranks(values: list[float]) -> list[float]:
    """Average ranks: how many are smaller, plus the middle of those that are equal."""
    return [sum(y < x for y in values) + (1 + sum(y == x for y in values)) / 2 for x in values]


def slow_spearman(x: list[float], y: list[float]) -> float | None:
    a, b = ranks(x), ranks(y)
    centre = (len(x) + 1) / 2
    top = sum((p - centre) * (q - centre) for p, q in zip(a, b, strict=True))
    bottom = sum((p - centre) ** 2 for p in a) * sum((q - centre) ** 2 for q in b)
    return top / math.sqrt(bottom) if bottom else None


def slow_kendall(x: list[float], y: list[float]) -> float | None:
    agree = disagree = only_x = only_y = 0
    for i in range(len(x)):
        for j in range(i):
            if x[i] == x[j] or y[i] == y[j]:
                only_x += x[i] != x[j]
                only_y += y[i] != y[j]
            elif (x[i] < x[j]) == (y[i] < y[j]):
                agree += 1
            else:
                disagree += 1
    bottom = (agree + disagree + only_x) * (agree + disagree + only_y)
    return (agree - disagree) / math.sqrt(bottom) if bottom else None


def same(found: float | None, expected: float | None) -> None:
    if expected is None:
        assert found is None
    else:
        np.testing.assert_allclose(found, expected, atol=1e-12)


def arrays(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.array(pairs, dtype=np.float64).T
    return x, y


class TestCorrelation:
    @given(tied)
    def test_against_loops(self, pairs):
        x, y = arrays(pairs)
        same(correlation(x, y), slow_spearman(x.tolist(), y.tolist()))
        same(correlation(x, y, "kendall"), slow_kendall(x.tolist(), y.tolist()))

    @given(tied)
    def test_against_scipy(self, pairs):
        x, y = arrays(pairs)
        assume(np.ptp(x) and np.ptp(y))  # scipy warns of the others
        same(correlation(x, y), stats.spearmanr(x, y).statistic)
        same(correlation(x, y, "kendall"), stats.kendalltau(x, y).statistic)

    def test_worked_by_hand(self):
        """x in order, y = 2 1 4 3 5: d = 1 1 1 1 0, rho = 1 - 6 4 / (5 24) = .8; 2 of 10 pairs disagree, tau = .6.

        With x = 1 1 2 and y = 1 2 3: ranks 1.5 1.5 3 and 1 2 3, rho = 1.5 / sqrt(1.5 2); tau-b = 2 / sqrt(2 3).
        """
        x, y = arrays([(1, 2), (2, 1), (3, 4), (4, 3), (5, 5)])
        np.testing.assert_allclose([correlation(x, y), correlation(x, y, "kendall")], [0.8, 0.6], rtol=1e-14)
        x, y = arrays([(1, 1), (1, 2), (2, 3)])
        expected = [math.sqrt(0.75), 2 / math.sqrt(6)]
        np.testing.assert_allclose([correlation(x, y), correlation(x, y, "kendall")], expected, rtol=1e-14)

    @pytest.mark.parametrize("kind", KINDS)
    @given(pairs=tied)
    def test_increasing_maps_change_nothing_and_decreasing_ones_the_sign(self, kind, pairs):
        x, y = arrays(pairs)
        found = correlation(x, y, kind)
        same(correlation(np.exp(x), 3 * y**3 - 100, kind), found)
        same(correlation(-x, y, kind), None if found is None else -found)

    @pytest.mark.parametrize("kind", KINDS)
    @given(pairs=tied, seed=st.integers(0, 9))
    def test_neither_the_sides_nor_the_order_of_cells_matter(self, kind, pairs, seed):
        x, y = arrays(pairs)
        order = np.random.default_rng(seed).permutation(x.size)
        same(correlation(y, x, kind), correlation(x, y, kind))
        same(correlation(x[order], y[order], kind), correlation(x, y, kind))

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_side_without_an_order_has_no_correlation(self, kind):
        x = np.array([1.0, 2.0, 3.0])
        assert correlation(x, np.full(3, 0.1), kind) is None
        assert correlation(np.zeros(3), x, kind) is None
        assert correlation(x[:1], x[:1], kind) is None

    @pytest.mark.parametrize("kind", KINDS)
    def test_rounding_is_a_tie(self, kind):
        """The same ten class accuracies in two orders have means that differ in the last bit."""
        third = 0.1 + 0.2
        assert third != 0.3
        x = np.array([1.0, 2.0, 3.0])
        same(correlation(x, np.array([third, 0.3, 0.4]), kind), correlation(x, np.array([0.3, 0.3, 0.4]), kind))

    def test_another_kind_is_refused(self):
        with pytest.raises(ValueError, match="correlation 'pearson'; expected spearman or kendall"):
            correlation(np.arange(2.0), np.arange(2.0), "pearson")


accuracies = st.lists(st.sampled_from([0.25, 0.375, 0.5, 0.625]), min_size=1, max_size=8)


class TestRegret:
    def test_worked_by_hand(self):
        test, validation = np.array([0.5, 0.75, 0.625, 0.25]), np.array([0.5, 0.25, 0.75, 0.75])
        assert oracle_regret(test, 0) == 0.25
        assert searched(validation) == [2, 3]
        assert search_regret(test, validation, 0) == (0.625 + 0.25) / 2 - 0.5
        assert search_regret(test, validation, 1) < 0 < search_regret(test, validation, 3)
        assert gain(test, 1, 3) == 0.5

    @given(accuracies)
    def test_the_oracle_is_never_beaten_and_no_search_beats_it(self, numbers):
        test = np.array(numbers)
        validation = np.roll(test, 1)
        for selected in range(test.size):
            assert oracle_regret(test, selected) >= 0
            assert search_regret(test, validation, selected) <= oracle_regret(test, selected)
            assert search_regret(test, test, selected) == oracle_regret(test, selected)
        assert oracle_regret(test, int(test.argmax())) == 0

    @given(accuracies)
    def test_regrets_of_two_cells_differ_by_what_the_one_gains(self, numbers):
        test = np.array(numbers)
        last = test.size - 1
        assert oracle_regret(test, 0) - oracle_regret(test, last) == gain(test, last, 0)
        assert search_regret(test, test, 0) - search_regret(test, test, last) == -gain(test, 0, last)

    def test_ties_on_validation_ask_nothing_of_the_judge(self):
        validation = np.array([0.1 + 0.2, 0.3, 0.2])  # a tie but for rounding
        assert searched(validation) == [0, 1]
        one, other = np.array([0.5, 0.25, 0.0]), np.array([0.25, 0.5, 0.0])
        assert search_regret(one, validation, 2) == search_regret(other, validation, 2) == 0.375


class TestDifferences:
    @pytest.mark.parametrize("reference", range(6))
    def test_against_loops_and_scipy(self, reference):
        random = np.random.default_rng(3)
        K, risk = random.normal(size=6), 40 + random.normal(size=6)
        found = differences(K, risk, reference)
        others = [cell for cell in range(6) if cell != reference]
        pairs = [(K[cell] - K[reference], risk[cell] - risk[reference]) for cell in others]
        through = sum(x * y for x, y in pairs) / sum(x * x for x, _ in pairs)
        np.testing.assert_allclose(found["slope"], stats.linregress(K, risk).slope, rtol=1e-10)
        np.testing.assert_allclose(found["slope_through_reference"], through, rtol=1e-10)
        np.testing.assert_allclose(found["rms_off"], math.sqrt(sum((x - y) ** 2 for x, y in pairs) / 5), rtol=1e-10)
        np.testing.assert_allclose(found["rms_measured"], math.sqrt(sum(y * y for _, y in pairs) / 5), rtol=1e-10)

    def test_a_right_criterion_is_off_by_a_constant_alone(self):
        K = np.array([0.5, 0.25, 1.0])
        found = differences(K, K + 7, 1)
        expected = {"slope": 1.0, "slope_through_reference": 1.0, "rms_off": 0.0, "rms_measured": math.sqrt(0.3125)}
        assert found == pytest.approx(expected, abs=1e-12)

    def test_a_criterion_that_is_too_large_by_a_factor_shows_it(self):
        K = np.array([0.5, 0.25, 1.0])
        found = differences(10 * K, K, 0)
        np.testing.assert_allclose([found["slope"], found["slope_through_reference"]], 0.1, rtol=1e-12)
        np.testing.assert_allclose(found["rms_off"], 9 * found["rms_measured"], rtol=1e-12)

    def test_a_criterion_without_differences_has_no_slope(self):
        found = differences(np.full(3, 0.1), np.array([1.0, 2.0, 3.0]), 0)
        assert (found["slope"], found["slope_through_reference"]) == (None, None)
        np.testing.assert_allclose([found["rms_off"], found["rms_measured"]], math.sqrt(2.5), rtol=1e-12)

    def test_one_cell_has_no_differences(self):
        assert set(differences(np.ones(1), np.ones(1), 0).values()) == {None}


def table(random: np.random.Generator, depths: int = 3, weights: int = 3) -> np.ndarray:
    """Random numbers in sixteenths, the row of depth 0 flat."""
    found = random.integers(1, 16, size=(depths, weights)) / 16
    found[0] = found[0, 0]
    return found


def draw(num_seeds: int) -> tuple[dict[int, np.ndarray], dict[int, dict[str, Measured]]]:
    random = np.random.default_rng(5)
    predicted = {seed: table(random) for seed in range(num_seeds)}
    measured = {
        seed: {name: Measured(risk=table(random), error=table(random)) for name in ("validation", "test")}
        for seed in range(num_seeds)
    }
    return predicted, measured


def summed(predicted, measured, cells=CELLS, **named):
    return summary(cells, predicted, measured, np.random.default_rng(0), data="glyphs", reading="general", **named)


class TestSummary:
    def test_worked_by_hand(self):
        """K is smallest at (3, .25), in column 1/2 at (3, .5), in row 6 at (6, .75).

        Cells in order (0), (3, .25 .5 .75), (6, .25 .5 .75): K 9 | 1 3 5 | 8 7 6, validation error best at (6, .5).
        """
        K = [[9, 9, 9], [1, 3, 5], [8, 7, 6]]
        error = np.array([[0.5, 0.5, 0.5], [0.25, 0.125, 0.375], [0.5, 0.625, 0.75]])
        validation = np.array([[0.5, 0.5, 0.5], [0.25, 0.25, 0.375], [0.5, 0.125, 0.75]])
        risk = np.array(K) / 10 + 3
        seen = {"validation": Measured(1 / risk, validation), "test": Measured(risk, error)}
        found = summed({4: K}, {4: seen})
        assert found["by_seed"] == [
            {
                "seed": 4,
                "selected": {"depth": 3, "weight": 0.25},
                "searched": [{"depth": 6, "weight": 0.5}],
                "spearman": pytest.approx(slow_spearman([9, 1, 3, 5, 8, 7, 6], [4, 2, 1, 3, 4, 5, 6])),
                "kendall": pytest.approx(slow_kendall([9, 1, 3, 5, 8, 7, 6], [4, 2, 1, 3, 4, 5, 6])),
                "spearman_risk": pytest.approx(1),
                "kendall_risk": pytest.approx(1),
                "spearman_risk_of_weights": pytest.approx(1),
                "spearman_risk_of_depths": pytest.approx(1),
                "search_regret": -37.5,
                "oracle_regret": 12.5,
                "gain": 37.5,
                "gain_depth_alone": 50.0,
                "gain_weight_alone": -12.5,
                "gain_over_nothing_shared": 25.0,
                "slope": pytest.approx(0.1),
                "slope_through_reference": pytest.approx(0.1),
                "rms_off": pytest.approx(0.9 * math.sqrt((4 + 36 + 16 + 4 + 1 + 1) / 6)),
                "rms_measured": pytest.approx(0.1 * math.sqrt((4 + 36 + 16 + 4 + 1 + 1) / 6)),
            }
        ]
        assert found["gain"] == {"mean": 37.5, "low": None, "high": None, "bootstrap": None}

    def test_the_order_of_weights_and_that_of_depths_are_apart(self):
        """Right order along the weights of both depths, wrong along the depths of all weights; s = 0 has no say."""
        K = np.array([[0.0, 0, 0], [4, 5, 6], [1, 2, 3]])
        for nothing in (0.0, 9.0):
            risk = np.array([[nothing] * 3, [1, 2, 3], [4, 5, 6]])
            half = np.full((3, 3), 0.5)
            found = summed({0: K}, {0: dict.fromkeys(("validation", "test"), Measured(risk, half))})
            assert found["spearman_risk_of_weights"]["mean"] == pytest.approx(1)
            assert found["spearman_risk_of_depths"]["mean"] == pytest.approx(-1)

    def test_one_weight_has_no_order_of_weights(self):
        cells = Cells((0, 3, 6), (0.5,))
        K, half = np.array([[1.0], [2.0], [3.0]]), np.full((3, 1), 0.5)
        found = summed({0: K}, {0: dict.fromkeys(("validation", "test"), Measured(K, half))}, cells)
        assert found["spearman_risk_of_weights"]["mean"] is None
        assert found["spearman_risk_of_depths"]["mean"] == pytest.approx(1)

    def test_it_is_json_and_has_every_measure(self):
        found = summed(*draw(4))
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert [found[key] for key in ("data", "reading", "state", "split", "seeds")] == [
            *("glyphs", "general", "refined", "test"),
            [0, 1, 2, 3],
        ]
        for name, (low, high) in MEASURES.items():
            assert low <= found[name]["low"] <= found[name]["mean"] <= found[name]["high"] <= high, name
            np.testing.assert_allclose(found[name]["mean"], np.mean([one[name] for one in found["by_seed"]]))

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 1000))
    def test_the_ablation_is_the_criterion_held_to_a_row_or_a_column(self, seed):
        random = np.random.default_rng(seed)
        K, error = table(random), table(random)
        found = summed({0: K}, {0: dict.fromkeys(("validation", "test"), Measured(K, error))})["by_seed"][0]
        reference = error[2, 1]
        column, row = {0: 1, 1: 1, 2: 1}, {0: 0, 1: 1, 2: 2}
        depth = min((K[d, 1], -d) for d in column)[1]
        weight = min((K[2, w], abs(w - 1), w) for w in row)[2]
        np.testing.assert_allclose(found["gain_depth_alone"], 100 * (reference - error[-depth, 1]), atol=1e-12)
        np.testing.assert_allclose(found["gain_weight_alone"], 100 * (reference - error[2, weight]), atol=1e-12)

    def test_nothing_shared_counts_once(self):
        predicted, measured = draw(1)
        K, error = predicted[0], measured[0]["test"].error
        distinct = [(0, 0), *((row, column) for row in (1, 2) for column in range(3))]
        x, y = [K[cell] for cell in distinct], [error[cell] for cell in distinct]
        found = summed(predicted, measured)
        same(found["spearman"]["mean"], slow_spearman(x, y))
        same(found["kendall"]["mean"], slow_kendall(x, y))
        assert abs(found["spearman"]["mean"] - slow_spearman(list(K.ravel()), list(error.ravel()))) > 0.01

    def test_weights_that_are_not_measured_at_any_depth_but_0_change_nothing(self):
        """Depth 0 alone: one cell, whatever the number of weights."""
        tables = [np.full((1, num_weights), 0.5) for num_weights in (1, 9)]
        found = [
            summed(
                {0: flat},
                {0: dict.fromkeys(("validation", "test"), Measured(flat, flat))},
                Cells((0,), tuple((np.arange(flat.size) + 1) / (flat.size + 1))),
            )
            for flat in tables
        ]
        assert found[0] == found[1]
        assert found[0]["spearman"]["mean"] is None
        assert found[0]["gain_over_nothing_shared"]["mean"] == 0

    def test_seeds_are_never_pooled(self):
        """What one seed adds to all its cells leaves every correlation, slope and interval as it was."""
        predicted, measured = draw(3)
        moved = {seed: K + 10.0 * seed for seed, K in predicted.items()}
        shifted = {
            seed: {name: Measured(one.risk + 5.0 * seed, one.error) for name, one in splits.items()}
            for seed, splits in measured.items()
        }
        before, after = summed(predicted, measured), summed(moved, shifted)
        for name in MEASURES:
            for key in ("mean", "low", "high", "bootstrap"):
                np.testing.assert_allclose(after[name][key], before[name][key], atol=1e-9, err_msg=name)

    def test_every_measure_sees_the_same_resampled_seeds(self):
        """A second reading, or another order of seeds, moves no interval; a map of one measure maps its interval."""
        predicted, measured = draw(5)
        found = summed(predicted, measured)
        assert summed(dict(reversed(predicted.items())), dict(reversed(measured.items()))) == found
        mirrored = summed({seed: -K for seed, K in predicted.items()}, measured)
        for name in ("spearman", "kendall_risk"):
            low, high = found[name]["bootstrap"]
            np.testing.assert_allclose(mirrored[name]["bootstrap"], [-high, -low], atol=1e-12)

    def test_choosing_on_validation_never_looks_at_the_test_tables(self):
        predicted, measured = draw(3)
        unseen = {seed: {"validation": splits["validation"]} for seed, splits in measured.items()}
        found = summed(predicted, unseen, split="validation")
        assert found == summed(predicted, measured, split="validation")
        assert found["search_regret"]["mean"] == found["oracle_regret"]["mean"]

    def test_a_seed_without_an_order_has_no_correlation_and_the_mean_says_so(self):
        predicted, measured = draw(2)
        predicted[1] = np.ones((3, 3))
        found = summed(predicted, measured)
        assert found["by_seed"][0]["spearman"] is not None
        assert found["by_seed"][1]["spearman"] is None
        assert found["spearman"] == {"mean": None, "low": None, "high": None, "bootstrap": None}
        assert found["by_seed"][1]["selected"] == {"depth": 6, "weight": 0.5}
        assert found["by_seed"][1]["gain"] == 0

    def test_without_depth_0_there_is_nothing_to_compare_with_it(self):
        cells, measured = Cells((3, 6), (0.5, 0.75)), Measured([[1, 2], [3, 4]], [[0.5, 0.25], [0.75, 0.5]])
        found = summed({0: [[1, 2], [3, 4]]}, {0: dict.fromkeys(("validation", "test"), measured)}, cells)
        assert set(MEASURES) - set(found) == {"gain_over_nothing_shared"}
        assert found["gain"]["mean"] == 25.0

    def test_what_does_not_fit_is_refused(self):
        predicted, measured = draw(2)
        with pytest.raises(InputError, match=r"^criteria of seeds \[0\], measurements of seeds \[0, 1\]; expected the"):
            summed({0: predicted[0]}, measured)
        with pytest.raises(InputError, match=r"seeds \[\]; expected the same seeds, at least one"):
            summed({}, {})
        with pytest.raises(InputError, match=r"^seed 0 is not measured on 'tset'; did you mean \"test\""):
            summed(predicted, measured, split="tset")
        with pytest.raises(InputError, match=r"^weight 0.5; expected one of the grid's head weights \[0.2, 0.4, 0.9\]"):
            summed(predicted, measured, Cells((0, 3, 6), (0.2, 0.4, 0.9)))

    def test_the_bad_cell_is_named(self):
        predicted, measured = draw(2)
        predicted[1][1, 2] = np.nan
        with pytest.raises(InputError, match=r"^general of seed 1 at depth 3, weight 0.75: nan; expected a finite"):
            summed(predicted, measured)
        predicted, measured = draw(2)
        measured[1]["validation"].error[2, 0] = 62.5
        message = r"^validation error of seed 1 at depth 6, weight 0.25: 62.5; expected one minus balanced accuracy"
        with pytest.raises(InputError, match=message):
            summed(predicted, measured)
        measured[1]["validation"].error[2, 0], measured[1]["validation"].error[0] = 0.5, -1.0
        with pytest.raises(InputError, match=r"^validation error of seed 1 at depth 0: -1; expected one minus"):
            summed(predicted, measured)
