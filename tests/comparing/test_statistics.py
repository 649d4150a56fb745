import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from forktail.comparing.statistics import mean, paired_difference, standard_error

numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=8)


@given(numbers)
def test_mean_and_standard_error_against_the_standard_library(values):
    assert mean(values) == pytest.approx(statistics.fmean(values), abs=1e-9)
    expected = statistics.stdev(values) / math.sqrt(len(values))
    assert standard_error(values) == pytest.approx(expected, abs=1e-9)


def test_the_interval_is_that_of_the_paired_t_test():
    random = np.random.default_rng(0)
    for seeds in (2, 3, 10):
        one, other = random.normal(size=(2, seeds))
        found = paired_difference(one.tolist(), other.tolist())
        interval = ttest_rel(one, other).confidence_interval(0.95)
        assert found["mean"] == pytest.approx(np.mean(one - other))
        assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """2,000 draws of 3 seeds, true difference 1: the share inside is 0.95 within four standard errors (0.02)."""
    random = np.random.default_rng(1)
    shared = random.normal(0, 5, size=(2000, 3))  # what the seed does to both drops out
    one, other = shared + random.normal(1, 1, size=(2000, 3)), shared + random.normal(0, 1, size=(2000, 3))
    found = [paired_difference(a.tolist(), b.tolist()) for a, b in zip(one, other, strict=True)]
    inside = np.mean([f["low"] <= 1 <= f["high"] for f in found])
    assert abs(inside - 0.95) < 0.02


def test_a_single_seed_says_nothing_of_chance():
    assert standard_error([0.5]) is None
    assert paired_difference([0.5], [0.25]) == {"mean": 0.25, "low": None, "high": None}


def test_a_missing_value_is_not_averaged_away():
    assert mean([0.5, None]) is None
    assert standard_error([0.5, None, 0.25]) is None
    assert paired_difference([0.5, None], [0.5, 0.5]) == {"mean": None, "low": None, "high": None}


def test_seeds_must_be_paired():
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0, 2.0], [1.0])
