import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktail.report.charts.scale import Scale, asks_for_logarithm, linear, logarithmic

values = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8)
positive = st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=8)


def test_a_value_stands_in_proportion():
    scale = Scale(10, 20, 100, 300)
    assert [scale(v) for v in (10, 15, 20)] == [100, 200, 300]
    assert Scale(10, 20, 300, 100)(12.5) == 250


def test_a_logarithm_gives_equal_ratios_equal_lengths():
    scale = Scale(1, 10_000, 0, 400, logarithmic=True)
    np.testing.assert_allclose([scale(v) for v in (1, 10, 100, 10_000)], [0, 100, 200, 400])


@given(values, st.booleans())
def test_a_linear_axis_holds_its_values_and_its_ticks(given_values, zero):
    scale = linear(given_values, 0, 1, zero=zero)
    assert scale.low < scale.high
    assert all(-1e-6 <= scale(v) <= 1 + 1e-6 for v in given_values)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 10
    assert ticks == sorted(set(ticks))
    assert all(-1e-6 <= scale(tick) <= 1 + 1e-6 for tick in ticks)
    if zero:
        assert scale.low <= 0 <= scale.high


@given(positive, st.booleans())
def test_a_logarithmic_axis_holds_its_values_and_its_ticks(given_values, room):
    scale = logarithmic(given_values, 0, 1, room=room)
    assert 0 < scale.low < scale.high
    assert all(-1e-6 <= scale(v) <= 1 + 1e-6 for v in given_values)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 9
    assert all(-1e-6 <= scale(tick) <= 1 + 1e-6 for tick in ticks)


@pytest.mark.parametrize("value", [5.0, -3.0, 1e-9, 1e9, 1e300, 5e-324])
def test_equal_values_stand_inside(value):
    scale = linear([value, value], 0, 100)
    assert 0 < scale(value) < 100


def test_zeros_alone_stand_at_the_start_of_an_axis_that_holds_zero():
    assert linear([0, 0], 0, 100, zero=True)(0) == 0


def test_whole_ticks_are_whole():
    assert linear([1, 2], 0, 1, round_off=False).ticks(whole=True) == [1, 2]
    assert linear([1, 30], 0, 1, round_off=False).ticks(whole=True) == [5, 10, 15, 20, 25, 30]
    assert logarithmic([1, 400], 0, 1, room=True).ticks(whole=True)[0] == 1


@pytest.mark.parametrize(("given_values", "asks"), [([1, 30], True), ([1, 29], False), ([0, 99], False), ([5], False)])
def test_a_wide_range_asks_for_a_logarithm(given_values, asks):
    assert asks_for_logarithm(given_values) == asks
