from __future__ import annotations

import numpy as np
import pytest

from forktail.errors import InputError
from forktail.theory import UnitMoments, movement_damping
from forktail.theory.damping import predicted_movement


def fisher_unit(fisher, position) -> UnitMoments:
    return UnitMoments(fisher, fisher, fisher, position)


def test_one_parameter_has_a_closed_form():
    """S = H: H / (n lambda (H + lambda)) = u^2, a quadratic in lambda."""
    H, n, u = 3.0, 50.0, 0.2
    expected = (-H + np.sqrt(H**2 + 4 * H / (n * u**2))) / 2
    unit = fisher_unit(np.array([[H]]), np.array([[u]]))
    np.testing.assert_allclose(movement_damping([unit], [], [n]), expected, rtol=1e-11)


def test_the_root_balances_loops_over_all_tasks_units_and_decoders(draw_unit):
    units, decoders, n = [draw_unit(2, 4), draw_unit(2, 3)], [draw_unit(1, 2), draw_unit(1, 5)], [30.0, 70.0]
    damping = movement_damping(units, decoders, n)
    predicted = measured = 0.0
    parts = [(unit, k, n[k]) for unit in units for k in range(2)] + [(unit, 0, n[k]) for k, unit in enumerate(decoders)]
    for unit, k, images in parts:
        for H, S, u in zip(unit.curvature[k], unit.scores[k], unit.position[k], strict=True):
            predicted += (H / (H + damping)) ** 2 * (1 / (images * damping) + S / (images * H**2))
            measured += u**2
    np.testing.assert_allclose(predicted, measured, rtol=1e-10)


def test_predicted_movement_against_simulation(rng):
    """Draw optimum and gradient noise, train with damping, measure: 400,000 times."""
    H, S, n, damping, draws = 2.0, 5.0, 40.0, 0.7, 400_000
    optimum = rng.normal(scale=np.sqrt(1 / (n * damping)), size=draws)
    gradient = rng.normal(scale=np.sqrt(S / n), size=draws)
    squared = ((H * optimum - gradient) / (H + damping)) ** 2
    unit = UnitMoments(np.array([[H]]), np.array([[S]]), np.array([[H]]), np.zeros((1, 1)))
    error = squared.std() / np.sqrt(draws)
    np.testing.assert_allclose(predicted_movement(unit, np.array([n]), damping).item(), squared.mean(), atol=4 * error)


def test_predicted_movement_falls_with_damping(draw_unit):
    unit = draw_unit(2, 20)
    movements = [predicted_movement(unit, np.array([9.0, 5.0]), damping) for damping in np.logspace(-12, 12, 97)]
    assert np.all(np.diff(movements, axis=0) < 0)


def test_more_movement_means_less_damping(draw_unit):
    unit = draw_unit(2, 20)
    further = UnitMoments(unit.curvature, unit.scores, unit.risk, 3 * unit.position)
    assert movement_damping([further], [], [9, 9]) < movement_damping([unit], [], [9, 9])


@pytest.mark.parametrize("scale", [1e-40, 1e-6, 1e40])
def test_scaling_the_loss_scales_the_damping(draw_unit, scale):
    unit = draw_unit(2, 10)
    scaled = UnitMoments(scale * unit.curvature, scale * unit.scores, unit.risk, unit.position / np.sqrt(scale))
    damping = movement_damping([unit], [], [9, 9])
    np.testing.assert_allclose(movement_damping([scaled], [], [9, 9]), scale * damping, rtol=1e-9)


def test_parameters_without_curvature_do_not_count(draw_unit):
    unit = draw_unit(1, 5)
    dead = UnitMoments(*[np.zeros((1, 3))] * 3, position=np.full((1, 3), 100.0))
    expected = movement_damping([unit], [], [20])
    np.testing.assert_allclose(movement_damping([unit, dead], [], [20]), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("fisher", "position"),
    [(1.0, 0.0), (0.0, 1.0), (1.0, 1e-160)],
    ids=["nothing moved", "no curvature", "moved immeasurably little"],
)
def test_no_root_is_an_error(fisher, position):
    unit = fisher_unit(np.full((1, 2), fisher), np.full((1, 2), position))
    with pytest.raises(InputError, match="no damping explains a sum of squared movement"):
        movement_damping([unit], [], [10])
