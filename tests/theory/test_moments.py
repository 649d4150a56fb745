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
    unit = UnitMoments(**{name: values.astype(np.float32) for name, values in GOOD.items()})
    assert (unit.num_tasks, unit.num_coordinates) == (2, 3)
    assert {getattr(unit, name).dtype for name in GOOD} == {np.dtype(np.float64)}


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
