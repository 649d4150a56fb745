from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktail.errors import InputError
from forktail.grids.cells import Cells
from forktail.theory import CriterionTable, select

CELLS = Cells((0, 2, 6), (0.3, 0.5, 0.7))
TABLE = [[5, 5, 5], [1, 2, 3], [4, 6, 7]]


def test_nothing_shared_is_one_cell():
    assert CELLS.num_cells == 7
    np.testing.assert_array_equal(CELLS.values(TABLE, "K"), [5, 1, 2, 3, 4, 6, 7])
    places = [tuple(CELLS.place(cell).values()) for cell in range(7)]
    assert places == [(0, None), (2, 0.3), (2, 0.5), (2, 0.7), (6, 0.3), (6, 0.5), (6, 0.7)]


def test_a_grid_without_depth_0_has_all_its_cells():
    cells = Cells((1, 3), (0.2, 0.9))
    np.testing.assert_array_equal(cells.values([[1, 2], [3, 4]], "K"), [1, 2, 3, 4])


@given(st.integers(1, 9))
def test_more_weights_do_not_repeat_nothing_shared(num_weights):
    cells = Cells((0,), tuple((np.arange(num_weights) + 1) / (num_weights + 1)))
    np.testing.assert_array_equal(cells.values([[2.5] * num_weights], "K"), [2.5])


@pytest.mark.parametrize("depth", CELLS.depths)
@pytest.mark.parametrize("weight", CELLS.weights)
def test_a_cell_is_found_where_it_stands(depth, weight):
    found = CELLS.place(CELLS.at(depth, weight + 1e-12))
    assert found == {"depth": depth, "weight": weight if depth else None}


def test_at_depth_0_any_weight_will_do():
    assert CELLS.at(0, 0.123) == CELLS.at(0) == 0


def test_rows_and_columns_can_be_asked_alone():
    values = CELLS.values(TABLE, "K")
    assert CELLS.place(CELLS.smallest(values)) == {"depth": 2, "weight": 0.3}
    assert CELLS.place(CELLS.smallest(values, depth=6)) == {"depth": 6, "weight": 0.3}
    assert CELLS.place(CELLS.smallest(values, weight=0.5)) == {"depth": 2, "weight": 0.5}
    shared_is_worse = CELLS.values([[5, 5, 5], [6, 7, 8], [9, 9, 9]], "K")
    assert CELLS.smallest(shared_is_worse, weight=0.7) == 0  # nothing shared belongs to every weight


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=10, max_size=10), st.integers(1, 4))
def test_the_smallest_cell_is_the_one_that_select_takes(numbers, flat):
    """Few different values, so that most tables have ties; depths 0..2, five weights of which two pairs mirror."""
    weights = np.array([0.1, 0.35, 0.5, 0.65, 0.9])
    total = np.array([flat] * 5 + numbers, dtype=np.float64).reshape(3, 5)
    zero = np.zeros_like(total)
    table = CriterionTable(np.stack([weights, 1 - weights], 1), total, zero, zero, "general", True, 0.0, 0)
    cells = Cells((0, 1, 2), tuple(weights))
    for depth, weight in ((None, None), (2, None), (None, 0.5)):
        found = cells.place(cells.smallest(cells.values(total, "K"), depth=depth, weight=weight))
        choice = select(table, depths=None if depth is None else [depth], weights=None if weight is None else [weight])
        assert found == {"depth": choice.depth, "weight": choice.weight if choice.depth else None}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(bad):
    table = np.array(TABLE, dtype=np.float64)
    table[2, 0] = bad
    with pytest.raises(InputError, match=rf"^risk of seed 3 at depth 6, weight 0.3: {bad}; expected a finite number"):
        CELLS.values(table, "risk of seed 3")


def test_a_row_of_depth_0_that_depends_on_the_weight_is_refused():
    message = r"^risk of seed 3 at depth 0: 5 at weight 0.3, 5.1 at weight 0.7; expected one value: .*; measure it once"
    with pytest.raises(InputError, match=message):
        CELLS.values([[5, 5, 5.1], [1, 2, 3], [4, 6, 7]], "risk of seed 3")
    np.testing.assert_array_equal(
        CELLS.values([[5, 5, 5 + 1e-12], *TABLE[1:]], "K")[:1], [5]
    )  # rounding is not a weight


def test_a_table_of_another_shape_is_refused():
    with pytest.raises(InputError, match=r"^K: a table of shape \(3, 2\); expected \(3 depths, 3 weights\)"):
        CELLS.values([[1, 1], [2, 3], [4, 5]], "K")


@pytest.mark.parametrize("depths", [(), (2, 1), (1, 1), (-1, 0)])
def test_depths_out_of_order_are_refused(depths):
    with pytest.raises(InputError, match=r"^depths .*; expected increasing whole numbers from 0"):
        Cells(depths, (0.5,))


@pytest.mark.parametrize("weights", [(), (0.6, 0.4), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (np.nan,)])
def test_weights_out_of_order_or_range_are_refused(weights):
    with pytest.raises(InputError, match=r"^head weights .*; expected increasing numbers from 0 to 1"):
        Cells((0, 1), weights)


def test_a_cell_that_the_grid_does_not_have_is_refused():
    with pytest.raises(InputError, match=r"^depth 1; expected one of the grid's depths \[0, 2, 6\]"):
        CELLS.at(1)
    with pytest.raises(InputError, match=r"^weight 0.4; expected one of the grid's head weights \[0.3, 0.5, 0.7\]"):
        CELLS.smallest(np.zeros(7), weight=0.4)
