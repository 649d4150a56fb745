from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from forktail.errors import InputError
from forktail.grids.intervals import interval, resample


def drawn(num_seeds: int, draws: int = 10_000) -> np.ndarray:
    return resample(num_seeds, np.random.default_rng(0), draws)


def test_the_interval_is_that_of_the_t_test():
    random = np.random.default_rng(1)
    for num_seeds in (2, 3, 10):
        values = random.normal(size=num_seeds)
        found = interval(values.tolist(), drawn(num_seeds))
        expected = ttest_1samp(values, 0).confidence_interval(0.95)
        np.testing.assert_allclose(found["mean"], values.mean(), rtol=1e-12)
        np.testing.assert_allclose([found["low"], found["high"]], expected, rtol=1e-9)


def test_the_bootstrap_against_every_resample_there_is():
    """Four seeds have 256 resamples; percentiles of 40,000 drawn ones agree with those of all of them.

    They are exact where the cumulated share of resamples keeps its distance from 2.5 and 97.5 %, which it does here.
    """
    values = [0.1, 0.4, 0.5, 1.1]
    means = sorted(sum(one) / 4 for one in itertools.product(values, repeat=4))
    found = interval(values, drawn(4, 40_000))
    np.testing.assert_allclose(found["bootstrap"], [means[int(0.025 * 256)], means[int(0.975 * 256)]], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(10**5), 10**5).map(lambda n: n / 1000), min_size=2, max_size=6, unique=True))
def test_a_bootstrap_over_seeds_stays_between_the_seeds(values):
    found = interval(values, drawn(len(values), 200))
    low, high = found["bootstrap"]
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert found["low"] <= found["mean"] <= found["high"]


def test_three_seeds_bootstrap_to_their_range():
    """Each end is drawn with probability 1/27 > 2.5 %."""
    np.testing.assert_allclose(interval([0.3, 0.1, 0.7], drawn(3))["bootstrap"], [0.1, 0.7], rtol=1e-12)


@pytest.mark.parametrize(("num_seeds", "held"), [(3, 0.75), (5, 0.835), (10, 0.9005)])
def test_how_often_the_intervals_hold_the_truth(num_seeds, held):
    """1,500 normal samples, within four standard errors: 95 % for Student's t, less for the bootstrap.

    With three seeds that is 1 - 2^-2 exactly; with more the share of 6,000 other samples.
    """
    random = np.random.default_rng(2)
    resampled = drawn(num_seeds, 400)
    found = [interval(random.normal(1, 1, num_seeds).tolist(), resampled) for _ in range(1500)]
    student = np.mean([one["low"] <= 1 <= one["high"] for one in found])
    bootstrap = np.mean([one["bootstrap"][0] <= 1 <= one["bootstrap"][1] for one in found])
    assert abs(student - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1500)
    assert abs(bootstrap - held) < 4 * np.sqrt(held * (1 - held) / 1500)


def test_an_interval_ends_where_the_measure_ends():
    found = interval([0.9, 1.0, 0.95], drawn(3), within=(-1, 1))
    assert found["high"] == 1.0
    assert -1 < found["low"] < 0.9


def test_the_generator_decides_and_nothing_else():
    np.testing.assert_array_equal(drawn(5), drawn(5))
    other = resample(5, np.random.default_rng(1))
    assert (other != drawn(5)).any()
    assert set(np.unique(other)) == set(range(5))


def test_where_chance_did_not_show_there_is_no_interval():
    assert interval([0.5], drawn(1)) == {"mean": 0.5, "low": None, "high": None, "bootstrap": None}
    assert interval([0.1] * 3, drawn(3)) == {"mean": pytest.approx(0.1), "low": None, "high": None, "bootstrap": None}


def test_a_seed_without_a_value_is_not_averaged_away():
    nothing = {"mean": None, "low": None, "high": None, "bootstrap": None}
    assert interval([0.5, None, 0.25], drawn(3)) == nothing


def test_resamples_are_of_these_seeds():
    with pytest.raises(ValueError, match="resamples of 3 seeds for 2 values"):
        interval([0.5, 0.25], drawn(3))
    with pytest.raises(InputError, match=r"^0 seeds; expected at least one"):
        resample(0, np.random.default_rng(0))
