from __future__ import annotations

import json

import numpy as np
import pytest

from forktail.errors import InputError
from forktail.theory import CriterionTable, select


def table_of(total, weights) -> CriterionTable:
    total = np.asarray(total, dtype=np.float64)
    return CriterionTable(
        weights=np.asarray(weights, dtype=np.float64),
        shared_variance=total,
        shared_bias=np.zeros_like(total),
        own_variance=np.zeros_like(total),
        reading="general",
        debiased=True,
        damping=0.0,
        flat=0,
    )


WEIGHTS = [[0.3, 0.7], [0.5, 0.5], [0.7, 0.3]]
TABLE = table_of([[9, 9, 9], [7, 6, 5], [8, 4, 10]], WEIGHTS)


def test_the_smallest_cell_wins_and_the_runner_up_is_at_another_depth():
    selection = select(TABLE)
    assert (selection.depth, selection.weight, selection.value) == (2, 0.5, 4.0)
    assert (selection.runner_up.depth, selection.runner_up.weight, selection.runner_up.value) == (1, 0.7, 5.0)
    assert selection.weights == (0.5, 0.5)


def test_json_has_the_keys_of_selection_json():
    found = json.loads(json.dumps(select(TABLE).to_json()))
    assert found == {
        "depth": 2,
        "weight": 0.5,
        "value": 4.0,
        "reading": "general",
        "runner_up": {"depth": 1, "weight": 0.7, "value": 5.0},
        "alike": [[2, 0.5]],
        "flatness": 1 / 9,
    }


def test_flatness_counts_cells_within_one_percent_of_the_range():
    assert select(table_of([[0, 0.9, 1.1], [1, 50, 100]], WEIGHTS)).flatness == 3 / 6
    assert select(table_of(np.ones((2, 3)), WEIGHTS)).flatness == 1.0


def test_the_cells_within_one_percent_are_named():
    found = select(table_of([[0, 0.9, 1.1], [1, 50, 100]], WEIGHTS))
    assert [(cell.depth, cell.weight, cell.value) for cell in found.alike] == [(0, 0.3, 0), (0, 0.5, 0.9), (1, 0.3, 1)]
    assert found.best in found.alike
    assert select(TABLE, depths=[1]).alike == (select(TABLE, depths=[1]).best,)


def test_depth_and_weight_can_be_pinned():
    assert select(TABLE, depths=[1]).weight == 0.7
    assert select(TABLE, depths=[1]).runner_up is None
    assert select(TABLE, weights=[0.3]).depth == 1
    pinned = select(TABLE, depths=[2], weights=[[0.7, 0.3]])
    assert (pinned.depth, pinned.weight, pinned.flatness) == (2, 0.7, 1.0)


def test_pins_are_found_through_rounding():
    weights = np.linspace(0, 1, 11)
    table = table_of(np.arange(22).reshape(2, 11), np.stack([weights, 1 - weights], axis=1))
    assert select(table, weights=[0.3]).weights == pytest.approx((0.3, 0.7))


@pytest.mark.parametrize("depths", [[3], [-1], [], [0, 5]])
def test_unknown_depths_are_refused(depths):
    with pytest.raises(InputError, match="expected some of 0 to 2"):
        select(TABLE, depths=depths)


def test_unknown_weights_are_refused():
    with pytest.raises(InputError, match=r"weights \[0.4, 0.6\]; expected weights of the table; its 3 candidates"):
        select(TABLE, weights=[0.4])
    with pytest.raises(InputError, match=r"shape \(1, 3\)"):
        select(TABLE, weights=[[0.2, 0.3, 0.5]])


def test_ties_go_to_equal_weights_then_to_the_deeper_cell():
    nothing_shared = select(table_of([[1, 1, 1], [2, 2, 2]], WEIGHTS))
    assert (nothing_shared.depth, nothing_shared.weight) == (0, 0.5)
    across_depths = select(table_of([[2, 2, 2], [1, 1, 5], [1 + 1e-13, 1, 5]], WEIGHTS))
    assert (across_depths.depth, across_depths.weight) == (2, 0.5)
    weight_first = select(table_of([[2, 1, 2], [1, 2, 2]], WEIGHTS))
    assert (weight_first.depth, weight_first.weight) == (0, 0.5)


def test_only_ties_within_rounding_count():
    selection = select(table_of([[1, 1 + 1e-11, 1]], WEIGHTS))
    assert selection.weight == 0.3


@pytest.mark.parametrize("column", [3, 5, 8])
def test_weights_equally_far_from_a_half_tie_in_spite_of_rounding(column):
    """In floating point, .2 and .8 of this grid are not equally far from .5; the deeper cell must win either way."""
    first = np.linspace(0.05, 0.95, 19)
    total = np.full((2, 19), 2.0)
    total[0, column] = total[1, 18 - column] = 1.0
    weights = np.stack([first, 1 - first], axis=1)
    assert select(table_of(total, weights)).depth == 1
    assert select(table_of(total[:, ::-1], weights)).depth == 1


def test_three_tasks_show_all_weights():
    selection = select(table_of([[3, 2], [1, 5]], [[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]]))
    assert selection.weight == (0.2, 0.3, 0.5)
    assert selection.to_json()["weight"] == [0.2, 0.3, 0.5]
    assert select(table_of([[3, 2], [1, 5]], [[0.2, 0.3, 0.5], [0.4, 0.3, 0.3]]), weights=[[0.4, 0.3, 0.3]]).depth == 0


def test_debiased_criteria_may_be_negative():
    assert select(table_of([[0, 0, 0], [-3, -2, 1]], WEIGHTS)).value == -3.0
