from __future__ import annotations

import numpy as np
import pytest

from forktail.errors import InputError
from forktail.theory import UnitMoments

GOOD = {
    "curvature": np.ones((2, 3)),
    "scores": np.ones((2, 3)),
    "risk": np.ones((2, 3)),
    "position": -np.ones((2, 3)),
    "cross": np.zeros((2, 2, 3)),
}


def test_moments_become_float64_and_know_their_size():
    unit = UnitMoments(**{name: values.astype(np.int32) for name, values in GOOD.items()})
    assert (unit.num_tasks, unit.num_coordinates) == (2, 3)
    assert {getattr(unit, name).dtype for name in GOOD} == {np.dtype(np.float64)}


def test_float32_moments_are_kept_but_parts_of_them_are_float64():
    given = {name: values.astype(np.float32) for name, values in GOOD.items()}
    unit = UnitMoments(**given)
    assert unit.curvature is given["curvature"]
    part = unit.part(slice(1, 9))
    assert part.num_coordinates == 2
    assert {getattr(part, name).dtype for name in GOOD} == {np.dtype(np.float64)}


def test_sums_over_float32_moments_are_made_in_float64():
    values = np.full((1, 20_000), 0.1, dtype=np.float32)
    summary = UnitMoments(*[values] * 4).summary()
    exact = 20_000 * float(np.float32(0.1))
    np.testing.assert_allclose([*summary["curvature"], *summary["scores"]], exact, rtol=1e-12)


def test_float64_moments_are_not_copied():
    assert UnitMoments(**GOOD).curvature is GOOD["curvature"]


def test_a_unit_may_have_no_parameters():
    empty = UnitMoments(*[np.zeros((2, 0))] * 4, cross=np.zeros((2, 2, 0)))
    assert empty.num_coordinates == 0


@pytest.mark.parametrize("name", ["scores", "risk", "position", "cross"])
def test_shapes_must_agree(name):
    with pytest.raises(InputError, match=rf"{name} of shape \(2, 4\)"):
        UnitMoments(**{**GOOD, name: np.ones((2, 4))})


@pytest.mark.parametrize("name", list(GOOD))
def test_numbers_must_be_finite(name):
    values = GOOD[name].copy()
    values.flat[1] = np.inf
    with pytest.raises(InputError, match=f"{name} has entries that are not finite"):
        UnitMoments(**{**GOOD, name: values})


@pytest.mark.parametrize("name", ["curvature", "scores", "risk"])
def test_second_moments_must_not_be_negative(name):
    values = GOOD[name].copy()
    values[1, 2] = -1e-30
    with pytest.raises(InputError, match=f"{name} has negative entries"):
        UnitMoments(**{**GOOD, name: values})


def test_curvature_needs_two_axes():
    with pytest.raises(InputError, match=r"curvature of shape \(3,\)"):
        UnitMoments(*[np.ones(3)] * 4)


def test_cross_must_be_symmetric():
    cross = np.zeros((2, 2, 3))
    cross[0, 1] = 0.5
    with pytest.raises(InputError, match="cross is not symmetric"):
        UnitMoments(**{**GOOD, "cross": cross})


def test_the_summary_against_an_explicit_loop():
    random = np.random.default_rng(0)
    curvature, scores, position = random.random((2, 7)), random.random((2, 7)), random.normal(size=(2, 7))
    curvature[:, 3] = 0  # a coordinate that no loss bends: no mismatch, whatever the distance
    found = UnitMoments(curvature, scores, curvature, position).summary()
    squares = [(position[0, p] - position[1, p]) ** 2 for p in range(7)]
    parallel = [
        curvature[0, p] * curvature[1, p] / (curvature[0, p] + curvature[1, p]) if curvature[:, p].any() else 0.0
        for p in range(7)
    ]
    assert found["parameters"] == 7
    np.testing.assert_allclose(found["curvature"], [sum(curvature[0]), sum(curvature[1])])
    np.testing.assert_allclose(found["scores"], [sum(scores[0]), sum(scores[1])])
    np.testing.assert_allclose(found["distance"], sum(squares))
    np.testing.assert_allclose(found["mismatch"], sum(h * d for h, d in zip(parallel, squares, strict=True)))


def test_the_mismatch_of_three_tasks_is_the_least_that_a_common_point_costs():
    random = np.random.default_rng(1)
    curvature, position = random.random((3, 4)), random.normal(size=(3, 4))
    found = UnitMoments(curvature, curvature, curvature, position).summary()
    tried = [np.sum(curvature * (position - random.normal(size=4)) ** 2) for _ in range(200)]
    best = (curvature * position).sum(0) / curvature.sum(0)
    np.testing.assert_allclose(found["mismatch"], np.sum(curvature * (position - best) ** 2))
    assert found["mismatch"] <= min(tried)
    pairs = [(0, 1), (0, 2), (1, 2)]
    np.testing.assert_allclose(found["distance"], sum(np.sum((position[t] - position[u]) ** 2) for t, u in pairs))


def test_a_single_task_has_no_distance():
    found = UnitMoments(*[np.ones((1, 3))] * 4).summary()
    assert (found["distance"], found["mismatch"]) == (None, None)
