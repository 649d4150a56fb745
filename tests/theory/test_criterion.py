"""Equation and fact numbers are those of docs/theory.md."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from forktail.errors import InputError
from forktail.theory import READINGS, UnitMoments, criterion, criterion_table, select
from forktail.theory.criterion import check_damping, checked_weights, influence, solution_covariance

N = 50.0
HALVES = np.array([[0.5, 0.5]])
LINE = np.stack([np.linspace(0, 1, 21), 1 - np.linspace(0, 1, 21)], axis=1)
FINE = np.stack([np.linspace(0, 1, 20_001), 1 - np.linspace(0, 1, 20_001)], axis=1)


def single(H, S=None, M=None, u=None, cross=None) -> UnitMoments:
    """One coordinate, K numbers per argument; S and M default to H, positions to zero."""
    column = [
        np.asarray(x, dtype=float)[:, None]
        for x in (H, H if S is None else S, H if M is None else M, u or [0.0] * len(H))
    ]
    if cross is None:
        return UnitMoments(*column)
    return UnitMoments(*column, cross=np.array([[[0.0], [cross]], [[cross], [0.0]]]))


def empty(num_tasks: int) -> UnitMoments:
    return UnitMoments(*[np.zeros((num_tasks, 0))] * 4)


def one_unit(unit: UnitMoments, weights, n=None, **options):
    """Table of a stem without parameters, the unit, and decoders without parameters: rows own and shared."""
    n = [N] * unit.num_tasks if n is None else n
    decoders = [empty(1)] * unit.num_tasks
    return criterion_table([empty(unit.num_tasks), unit], decoders, weights=weights, n=n, **options)


def best_ratio(values) -> float:
    """w/v at the smallest value over FINE."""
    index = int(np.argmin(values))
    assert 0 < index < len(FINE) - 1
    return FINE[index, 0] / FINE[index, 1]


def slow_cell(unit: UnitMoments, w, n, reading, debiased, damping) -> tuple[float, float, float]:
    """Eqs. 3 to 7 and 10 to 13 with dense matrices over all coordinates of a unit, one weight."""
    K, d = unit.curvature.shape
    H = [np.diag(row) for row in unit.curvature]
    paper = reading != "general"
    M = H if paper else [np.diag(row) for row in unit.risk]
    pull = damping * np.eye(d)
    S = np.zeros((K, K, d, d))
    for j in range(K):
        for k in range(K):
            if j == k:
                S[j, k] = H[j] if paper else np.diag(unit.scores[j])
            elif unit.cross is not None and not paper:
                S[j, k] = np.diag(unit.cross[j, k])
    inverse = [np.linalg.inv(H[k] + pull) for k in range(K)]
    V = np.array([[inverse[j] @ S[j, k] @ inverse[k] / np.sqrt(n[j] * n[k]) for k in range(K)] for j in range(K)])
    J = sum(w[k] * H[k] for k in range(K))
    if reading == "average":
        o = [w[k] * np.eye(d) for k in range(K)]
    else:
        o = [np.linalg.inv(J + pull) @ (w[k] * (H[k] + pull)) for k in range(K)]
    noise = sum(o[j] @ V[j, k] @ o[k].T for j in range(K) for k in range(K))
    variance = np.trace(sum(M) @ (np.linalg.inv(J) / n[0] if reading == "naive" else noise)) / 2
    shared = sum(o[k] @ unit.position[k] for k in range(K))
    bias = own = 0.0
    for t in range(K):
        slope = damping * M[t] @ np.linalg.inv(H[t])
        b = shared - unit.position[t]
        bias += b @ M[t] @ b / 2 - b @ slope @ unit.position[t]
        if debiased:
            away = [o[k] - (k == t) * np.eye(d) for k in range(K)]
            spread = sum(away[j] @ V[j, k] @ away[k].T for j in range(K) for k in range(K))
            with_own = sum(away[k] @ V[k, t] for k in range(K))
            bias -= np.trace(M[t] @ spread) / 2 - np.trace(slope @ with_own)
        own += np.trace(M[t] @ V[t, t]) / 2
    return variance, bias, own


CASES = [
    (reading, num_tasks, debiased, damping)
    for reading in READINGS
    for num_tasks in (2, 3)
    for debiased in (False, True)
    for damping in (0.0, 0.6)
    if not (reading == "naive" and damping)
]


@pytest.mark.parametrize(("reading", "num_tasks", "debiased", "damping"), CASES)
def test_every_reading_against_dense_matrices(draw_unit, rng, reading, num_tasks, debiased, damping):
    """Fact 6 and eq. 8, over three units and decoders, with S, S_tu, M and H all different."""
    units = [draw_unit(num_tasks, d, cross=True) for d in (3, 5, 2)]
    decoders = [draw_unit(1, 2 + k) for k in range(num_tasks)]
    weights = rng.dirichlet(np.ones(num_tasks), size=6)
    n = np.full(num_tasks, N)
    own_group_n = np.arange(1, num_tasks + 1) * 20.0 if reading == "unequal" else None
    options = {"reading": reading, "debiased": debiased, "damping": damping}
    table = criterion_table(units, decoders, weights=weights, n=n, own_group_n=own_group_n, **options)

    images = n if own_group_n is None else own_group_n
    readout = sum(slow_cell(unit, [1.0], images[[k]], **options)[2] for k, unit in enumerate(decoders))
    for column, w in enumerate(weights):
        cells = [slow_cell(unit, w, images, **options) for unit in units]
        for depth in range(3):
            shared = cells[: depth + 1] if depth else []
            expected = [sum(cell[term] for cell in shared) for term in (0, 1)]
            expected.append(readout + sum(cell[2] for cell in cells[len(shared) :]))
            found = [getattr(table, name)[depth, column] for name in ("shared_variance", "shared_bias", "own_variance")]
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-14)
    np.testing.assert_array_equal(table.total, table.shared_variance + table.shared_bias + table.own_variance)
    assert (table.reading, table.debiased, table.damping, table.flat) == (reading, debiased, damping, 0)


def test_unequal_numbers_of_images_in_the_general_reading(draw_unit):
    unit, n = draw_unit(3, 4), [10.0, 30.0, 70.0]
    w = np.array([0.2, 0.5, 0.3])
    table = one_unit(unit, [w], n=n, damping=0.4)
    expected = slow_cell(unit, w, n, "general", True, 0.4)
    found = (table.shared_variance[1, 0], table.shared_bias[1, 0], table.own_variance[0, 0])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_sandwich_and_naive_for_two_tasks_as_written():
    """Eqs. 10 and 11 at a = 3, b = 2, difference .1."""
    a, b, delta, w = 3.0, 2.0, 0.1, LINE[:, 0]
    v = 1 - w
    unit = single([a, b], u=[0.4, 0.5])
    table = one_unit(unit, LINE, reading="sandwich", debiased=False)
    g = (w**2 * a + v**2 * b) / (w * a + v * b) ** 2
    np.testing.assert_allclose(table.shared_variance[1], (a + b) * g / (2 * N), rtol=1e-13)
    np.testing.assert_allclose(table.shared_bias[1], a * b * g * delta**2 / 2, rtol=1e-12)
    np.testing.assert_allclose(table.own_variance[0], 2 / (2 * N), rtol=1e-13)
    naive = one_unit(unit, LINE, reading="naive", debiased=False)
    np.testing.assert_allclose(naive.shared_variance[1], (a + b) / (2 * N * (w * a + v * b)), rtol=1e-13)
    np.testing.assert_array_equal(naive.shared_bias, table.shared_bias)


def test_general_for_two_tasks_as_written():
    """Variance, bias, cross term and its debiasing in the two-task form, damping and all."""
    a, b, s_a, s_b, c, lam, u_a, u_b = 3.0, 2.0, 4.0, 1.5, -0.8, 0.5, 0.4, -0.1
    w = LINE[:, 0]
    v, J = 1 - w, w * a + (1 - w) * b + lam
    table = one_unit(single([a, b], S=[s_a, s_b], u=[u_a, u_b], cross=c), LINE, damping=lam)
    variance = (a + b) * (w**2 * s_a + v**2 * s_b + 2 * w * v * c) / J**2 / (2 * N)
    np.testing.assert_allclose(table.shared_variance[1], variance, rtol=1e-13)
    b_a, b_b = v * (b + lam) / J * (u_b - u_a), -w * (a + lam) / J * (u_b - u_a)
    V_a, V_b, C = (x / N for x in (s_a / (a + lam) ** 2, s_b / (b + lam) ** 2, c / (a + lam) / (b + lam)))
    o_a = w * (a + lam) / J
    o_b = 1 - o_a
    mismatch = (a * b_a**2 + b * b_b**2) / 2 * (1 - (V_a + V_b - 2 * C) / (u_b - u_a) ** 2)
    gain = -lam * (b_a * u_a + b_b * u_b) + lam * (o_b * (C - V_a) - o_a * (V_b - C))
    np.testing.assert_allclose(table.shared_bias[1], mismatch + gain, rtol=1e-12)


def test_chunks_change_nothing_but_rounding(draw_unit, monkeypatch):
    unit = draw_unit(2, 37, cross=True)
    whole = one_unit(unit, LINE, damping=0.3)
    monkeypatch.setattr(criterion, "_CHUNK_ELEMENTS", 5 * LINE.size)
    np.testing.assert_allclose(one_unit(unit, LINE, damping=0.3).total, whole.total, rtol=1e-12)


# Fact 1: what moves the weight.


@pytest.mark.parametrize("num_tasks", [2, 3])
@pytest.mark.parametrize("debiased", [False, True])
def test_sandwich_always_selects_equal_weights(draw_unit, rng, num_tasks, debiased):
    units, decoders = [draw_unit(num_tasks, 6) for _ in range(4)], [draw_unit(1, 2)] * num_tasks
    equal = np.full((1, num_tasks), 1 / num_tasks)
    weights = np.concatenate([rng.dirichlet(np.ones(num_tasks), size=300), equal])
    n = [N] * num_tasks
    table = criterion_table(units, decoders, weights=weights, n=n, reading="sandwich", debiased=debiased)
    np.testing.assert_array_equal(np.argmin(table.shared_variance[1:], axis=1), 300)
    for depth in range(4):
        assert select(table, depths=[depth]).weights == tuple(equal[0])


@pytest.mark.parametrize("commuting", [True, False])
def test_sandwich_selects_a_half_for_full_matrices(rng, commuting):
    roots = rng.normal(size=(2, 4, 5))
    if commuting:
        basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
        A, B = (basis @ np.diag(np.exp(rng.normal(size=4))) @ basis.T for _ in range(2))
    else:
        A, B = roots @ roots.swapaxes(1, 2)
    delta = rng.normal(size=4)
    values = []
    for w, v in LINE:
        J = np.linalg.inv(w * A + v * B)
        variance = np.trace((A + B) @ J @ (w**2 * A + v**2 * B) @ J) / (2 * N)
        b_a, b_b = v * J @ B @ delta, -w * J @ A @ delta
        values.append([variance, (b_a @ A @ b_a + b_b @ B @ b_b) / 2])
    np.testing.assert_array_equal(np.argmin(values, axis=0), [10, 10])
    assert (np.linalg.norm(A @ B - B @ A) < 1e-12) == commuting


@pytest.mark.parametrize(
    ("moments", "options", "expected"),
    [
        ({"S": [1.3, 4.0], "cross": 0.4}, {}, (2 * 4.0 - 3 * 0.4) / (3 * 1.3 - 2 * 0.4)),
        ({"cross": -0.7}, {}, (1 + 0.7 / 2) / (1 + 0.7 / 3)),
        ({"cross": 0.9}, {}, (1 - 0.9 / 2) / (1 - 0.9 / 3)),
        ({"S": [1.3, 4.0]}, {}, (2 / 1.3) / (3 / 4.0)),
        ({"M": [1.0, 5.0]}, {}, 1.0),
        ({}, {"damping": 1.7}, (1 + 1.7 / 2) / (1 + 1.7 / 3)),
        ({}, {"reading": "average"}, 2 / 3),
        ({}, {"reading": "unequal", "own_group_n": [40, 10]}, 40 / 10),
    ],
    ids=["S and c", "c < 0", "c > 0", "S", "M", "damping", "average", "unequal"],
)
def test_best_weight_of_the_variance(moments, options, expected):
    table = one_unit(single([2.0, 3.0], **moments), FINE, **options)
    np.testing.assert_allclose(best_ratio(table.shared_variance[1]), expected, rtol=5e-4)


@pytest.mark.parametrize(
    ("moments", "options", "expected"),
    [
        ({"M": [1.0, 5.0]}, {}, (1.0 / 2) / (5.0 / 3)),
        ({"S": [1.3, 4.0], "cross": 0.4}, {}, 1.0),
        ({}, {"reading": "unequal", "own_group_n": [40, 10]}, 1.0),
    ],
    ids=["M", "S and c", "unequal"],
)
def test_best_weight_of_the_bias(moments, options, expected):
    table = one_unit(single([2.0, 3.0], u=[0.0, 0.5], **moments), FINE, debiased=False, **options)
    np.testing.assert_allclose(best_ratio(table.shared_bias[1]), expected, rtol=5e-4)


def test_strong_covariance_sends_the_weight_to_an_end():
    table = one_unit(single([1.0, 3.0], cross=1.5), FINE)
    assert np.argmin(table.shared_variance[1]) in (0, len(FINE) - 1)


def test_naive_favours_the_larger_fisher_and_is_twice_the_truth_at_a_half():
    unit = single([5.0, 2.0])
    naive, sandwich = (one_unit(unit, LINE, reading=reading, debiased=False) for reading in ("naive", "sandwich"))
    assert np.argmin(naive.total[1]) == len(LINE) - 1
    np.testing.assert_allclose(naive.shared_variance[1, 10], 2 * sandwich.shared_variance[1, 10], rtol=1e-13)
    np.testing.assert_allclose(naive.total[1, 10], naive.total[0, 10], rtol=1e-13)  # sharing never pays


# Facts 2 and 3: when sharing pays, and what debiasing repairs.


@pytest.mark.parametrize("factor", [0.5, 0.999, 1.001, 2.0])
def test_sharing_pays_exactly_below_the_threshold(factor):
    a, b = 3.0, 2.0
    delta = np.sqrt(factor / N * (a + b) / (a * b))
    table = one_unit(single([a, b], u=[0.0, delta]), HALVES, reading="sandwich", debiased=False)
    assert (table.total[1, 0] < table.total[0, 0]) == (factor < 1)


def test_plug_in_mismatch_makes_sharing_look_useless_in_sandwich():
    """Without true mismatch the squared difference is on average its variance, 1/(Na) + 1/(Nb)."""
    a, b = 3.0, 2.0
    unit = single([a, b], u=[0.0, np.sqrt((1 / a + 1 / b) / N)])
    plug_in = one_unit(unit, LINE, reading="sandwich", debiased=False)
    assert np.all(plug_in.total[1] >= plug_in.total[0] * (1 - 1e-13))
    np.testing.assert_allclose(plug_in.total[1, 10], plug_in.total[0, 10], rtol=1e-13)
    debiased = one_unit(unit, LINE, reading="sandwich")
    np.testing.assert_allclose(debiased.shared_bias[1], 0, atol=1e-16)
    np.testing.assert_allclose(debiased.total[1, 10], debiased.total[0, 10] / 2, rtol=1e-13)


def test_plug_in_breaks_even_at_a_half_for_any_scores():
    a, b, s_a, s_b, c = 3.0, 2.0, 4.0, 1.5, -0.8
    variance = (s_a / a**2 + s_b / b**2 - 2 * c / (a * b)) / N
    unit = single([a, b], S=[s_a, s_b], u=[0.0, np.sqrt(variance)], cross=c)
    table = one_unit(unit, HALVES, debiased=False)
    np.testing.assert_allclose(table.total[1], table.total[0], rtol=1e-13)


def test_debiasing_is_right_on_average_only_because_nothing_is_clipped(rng):
    """200,000 estimates of the same two solutions, equal in truth: their mean bias is 0; clipped, it is .48 of Var."""
    a, b, draws = 3.0, 2.0, 200_000
    u = np.stack([rng.normal(scale=1 / np.sqrt(N * h), size=draws) for h in (a, b)])
    H = np.repeat([[a], [b]], draws, axis=1)
    unit = UnitMoments(H, H, H, u)
    options = {"weights": HALVES, "reading": "sandwich"}
    naive_size = one_unit(unit, debiased=False, **options).shared_bias[1, 0]
    debiased = one_unit(unit, **options).shared_bias[1, 0]
    assert abs(debiased) < 0.02 * naive_size
    variance = (1 / a + 1 / b) / N
    clipped = np.maximum((u[1] - u[0]) ** 2 - variance, 0).mean()
    np.testing.assert_allclose(clipped / variance, 0.484, atol=0.01)


def test_diagonal_debiasing_removes_too_little_for_full_curvature(rng):
    root = rng.normal(size=(5, 6))
    H = root @ root.T
    assert np.all(np.diag(np.linalg.inv(H)) > 1 / np.diag(H))


# Facts 4 and 5: structure.


@pytest.mark.parametrize("reading", READINGS)
def test_sharing_nothing_does_not_depend_on_the_weight(draw_unit, reading):
    own_group_n = [30, 20] if reading == "unequal" else None
    units, decoders = [draw_unit(2, 4) for _ in range(3)], [draw_unit(1, 3), draw_unit(1, 2)]
    table = criterion_table(units, decoders, weights=LINE, n=[N, N], reading=reading, own_group_n=own_group_n)
    np.testing.assert_array_equal(table.total[0], table.total[0, 0])
    np.testing.assert_array_equal(table.shared_variance[0] + table.shared_bias[0], 0)
    assert np.ptp(table.total[1]) > 0


def test_depths_add_up_unit_by_unit(draw_unit):
    units, decoders = [draw_unit(2, 4) for _ in range(4)], [draw_unit(1, 3), draw_unit(1, 2)]
    table = criterion_table(units, decoders, weights=LINE, n=[N, N])
    for depth in (2, 3):
        alone = one_unit(units[depth], LINE)
        np.testing.assert_allclose(
            table.total[depth] - table.total[depth - 1], alone.total[1] - alone.total[0], rtol=1e-9
        )


@pytest.mark.parametrize(
    ("reading", "damping"), [(r, d) for r in READINGS for d in (0.0, 0.6) if r != "naive" or not d]
)
def test_exchanging_the_tasks_changes_nothing(draw_unit, reading, damping):
    unit = draw_unit(2, 6, cross=True)
    fields = {f.name: getattr(unit, f.name)[::-1] for f in dataclasses.fields(unit) if f.name != "cross"}
    swapped = UnitMoments(**fields, cross=unit.cross[::-1, ::-1])
    own_group_n = np.array([30.0, 20.0]) if reading == "unequal" else None
    options = {"reading": reading, "damping": damping}
    table = one_unit(unit, LINE, own_group_n=own_group_n, **options)
    mirrored = one_unit(
        swapped, LINE[:, ::-1], own_group_n=own_group_n if reading != "unequal" else [20.0, 30.0], **options
    )
    for name in ("shared_variance", "shared_bias", "own_variance"):
        np.testing.assert_allclose(getattr(mirrored, name), getattr(table, name), rtol=1e-12, atol=1e-15)


def test_scaling_loss_and_damping_scales_the_criterion(draw_unit):
    unit, k = draw_unit(2, 6, cross=True), 7.0
    scaled = UnitMoments(k * unit.curvature, k**2 * unit.scores, k * unit.risk, unit.position, k**2 * unit.cross)
    table, larger = one_unit(unit, LINE, damping=0.3), one_unit(scaled, LINE, damping=k * 0.3)
    np.testing.assert_allclose(larger.total, k * table.total, rtol=1e-12)


def test_one_fisher_for_all_makes_the_choice_depend_on_the_unit_of_the_loss(draw_unit):
    unit, k = draw_unit(2, 6), 7.0
    scaled = dataclasses.replace(unit, curvature=k**2 * unit.curvature)
    options = {"reading": "sandwich", "debiased": False}
    table, larger = one_unit(unit, LINE, **options), one_unit(scaled, LINE, **options)
    np.testing.assert_allclose(larger.shared_bias, k**2 * table.shared_bias, rtol=1e-12)
    np.testing.assert_allclose(larger.shared_variance, table.shared_variance, rtol=1e-12)


# Eqs. 3 to 7 against simulated training.


@pytest.mark.parametrize("damping", [0.0, 0.9])
@pytest.mark.parametrize("case", ["two tasks", "three tasks", "another prior"])
def test_against_simulated_quadratic_training(rng, case, damping):
    """400,000 trainings of one parameter: gradient noise, Stage 1, Stage 2, excess risk over the undamped optimum.

    The criterion is exact here up to a constant, so shared minus own is compared: from the true damped solutions
    without debiasing, and on average from the measured ones with it. Standard errors come from 40 blocks of trainings.
    """
    H, target = np.array([2.0, 0.7, 1.2]), np.array([0.5, 0.9, -0.2])
    S = np.array([[3.0, -0.6, 0.2], [-0.6, 1.1, 0.3], [0.2, 0.3, 2.0]])
    if case != "three tasks":
        H, target, S = H[:2], target[:2], S[:2, :2]
    M = np.array([0.8, 1.9]) if case == "another prior" else H
    K, blocks, draws, n = len(H), 40, 10_000, 6.0
    weights = np.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]] if K == 2 else [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])

    noise = np.linalg.cholesky(S / n) @ rng.normal(size=(K, blocks * draws))
    pulled = H[:, None] * target[:, None] - noise
    measured = pulled / (H[:, None] + damping)
    true = H * target / (H + damping)

    def excess(solutions):
        return (M[:, None] * (solutions - target[:, None]) ** 2).sum(axis=0) / 2

    def moments(position):
        size = position.shape[1]
        spread = [np.repeat(np.asarray(x)[..., None], size, axis=-1) for x in (H, np.diag(S), M)]
        return UnitMoments(*spread, position, np.repeat(S[..., None], size, axis=-1))

    def predicted_gain(position, debiased):
        total = one_unit(moments(position), weights, n=[n] * K, damping=damping, debiased=debiased).total
        return (total[1] - total[0]) / position.shape[1]

    def averaged(values):
        means = np.asarray(values).reshape(blocks, -1).mean(axis=1)
        return means.mean(), means.std() / np.sqrt(blocks)

    known = predicted_gain(true[:, None], debiased=False)
    by_block = np.split(measured, blocks, axis=1)
    estimated = np.array([predicted_gain(block, debiased=True) for block in by_block])
    plug_in = np.array([predicted_gain(block, debiased=False) for block in by_block])
    for column, w in enumerate(weights):
        simulated, error = averaged(excess((w @ pulled) / (w @ H + damping)) - excess(measured))
        np.testing.assert_allclose(known[column], simulated, atol=5 * error)
        estimate, spread = averaged(estimated[:, column])
        np.testing.assert_allclose(estimate, known[column], atol=5 * spread)
        assert abs(plug_in[:, column].mean() - simulated) > 20 * (error + spread)


# Eq. 9: parameters without curvature.


@pytest.mark.parametrize("reading", READINGS)
def test_a_dead_parameter_costs_nothing_and_is_counted(draw_unit, reading):
    unit = draw_unit(2, 4)
    own_group_n = [30, 20] if reading == "unequal" else None
    padded = UnitMoments(
        *(np.pad(x, ((0, 0), (0, 3))) for x in (unit.curvature, unit.scores, unit.risk)),
        np.pad(unit.position, ((0, 0), (0, 3)), constant_values=5.0),
    )
    table = one_unit(unit, LINE, reading=reading, own_group_n=own_group_n)
    found = one_unit(padded, LINE, reading=reading, own_group_n=own_group_n)
    np.testing.assert_allclose(found.total, table.total, rtol=1e-13)
    assert (table.flat, found.flat) == (0, 6)


def test_where_one_task_is_flat_the_other_decides():
    """At inner weights the shared value is B's own: no bias, B's variance; A is silent, whatever its moments say."""
    unit = single([0.0, 2.0], S=[4.0, 3.0], M=[6.0, 2.0], u=[0.3, 0.8], cross=0.5)
    table = one_unit(unit, LINE[1:-1])
    np.testing.assert_allclose(table.own_variance[0], 2.0 * 3.0 / 2.0**2 / (2 * N), rtol=1e-14)
    np.testing.assert_allclose(table.shared_variance[1], table.own_variance[0], rtol=1e-13)
    np.testing.assert_allclose(table.shared_bias[1], 0, atol=1e-16)
    assert table.flat == 1


def test_where_all_trained_tasks_are_flat_the_parameter_stays_where_it_began():
    """Weights (1, 0), A flat: Stage 2 has no reason to move, and B misses its optimum by u_B, debiased by V_B."""
    table = one_unit(single([0.0, 2.0], S=[0.0, 3.0], u=[0.0, 0.8]), [[1.0, 0.0]])
    assert table.shared_variance[1, 0] == 0
    np.testing.assert_allclose(table.shared_bias[1, 0], 2.0 * (0.8**2 - 3.0 / 2.0**2 / N) / 2, rtol=1e-14)


@pytest.mark.parametrize("w", [0.2, 0.5, 1.0])
def test_the_flat_rule_is_the_limit_of_little_curvature_and_of_little_damping(w):
    exact = one_unit(single([0.0, 2.0], S=[0.0, 3.0], u=[0.0, 0.8]), [[w, 1 - w]]).total
    damped = one_unit(single([0.0, 2.0], S=[0.0, 3.0], u=[0.0, 0.8]), [[w, 1 - w]], damping=1e-9).total
    np.testing.assert_allclose(damped, exact, rtol=1e-7)
    if w < 1:
        tiny = one_unit(single([1e-12, 2.0], S=[0.0, 3.0], u=[0.0, 0.8]), [[w, 1 - w]]).total
        np.testing.assert_allclose(tiny, exact, rtol=1e-9)


def test_tiny_curvature_does_not_underflow():
    unit, tiny = single([3.0, 2.0]), single([3e-200, 2e-200])
    for reading in ("sandwich", "general"):
        table, found = (one_unit(each, LINE, reading=reading, debiased=False) for each in (unit, tiny))
        np.testing.assert_allclose(found.total, table.total, rtol=1e-12)


def test_an_infinite_criterion_is_an_error_that_damping_mends():
    unit = single([1e-200, 2.0], S=[1.0, 2.0])
    with pytest.raises(InputError, match=r"curvature is too small for its scores; .* use damping"):
        one_unit(unit, LINE)
    assert np.isfinite(one_unit(unit, LINE, damping=1e-3).total).all()


# Parts.


def test_influences_sum_to_one(draw_unit):
    o = influence(draw_unit(3, 5).curvature, np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]), damping=0.2)
    np.testing.assert_allclose(o.sum(axis=0), 1.0, rtol=1e-14)
    np.testing.assert_array_equal(o[1:, 1], 0.0)


def test_solution_covariance_against_simulation(rng):
    H, S, n, damping, draws = np.array([2.0, 0.7]), np.array([[3.0, -0.6], [-0.6, 1.1]]), 6.0, 0.4, 200_000
    solutions = np.linalg.cholesky(S / n) @ rng.normal(size=(2, draws)) / (H + damping)[:, None]
    V = solution_covariance(single(H, S=np.diag(S), cross=-0.6), np.array([n, n]), damping)
    np.testing.assert_allclose(V[..., 0], np.cov(solutions), rtol=0.03)


def test_rows_walk_the_table(draw_unit):
    table = one_unit(draw_unit(2, 3), LINE[:3])
    rows = list(table.rows())
    assert list(rows[0]) == ["depth", "weight", "shared_variance", "shared_bias", "own_variance", "total"]
    assert [(row["depth"], row["weight"]) for row in rows] == [(s, w) for s in (0, 1) for w in LINE[:3, 0]]
    np.testing.assert_array_equal([row["total"] for row in rows], table.total.ravel())
    three = one_unit(draw_unit(3, 3), [[0.2, 0.3, 0.5]])
    assert next(three.rows())["weight"] == (0.2, 0.3, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reading": "sandwhich"}, 'reading "sandwhich"; expected a known reading; did you mean "sandwich"'),
        ({"reading": "naive", "damping": 0.1}, "naive.*no damped form; set damping = 0"),
        ({"reading": "unequal"}, 'reading "unequal" without own_group_n'),
        ({"own_group_n": [3, 4]}, 'own_group_n with reading "general"'),
        ({"reading": "unequal", "own_group_n": [3]}, "own_group_n = .* for each of 2 tasks"),
        ({"reading": "sandwich", "n": [3, 4]}, 'expected one n common to all tasks; use reading "unequal"'),
        ({"n": [3, 4]}, "cross moments with n"),
        ({"n": [3, 0]}, "n = .*; expected a positive number of images"),
        ({"n": [3, 4, 5]}, "for each of 2 tasks"),
        ({"damping": -1.0}, "damping = -1.0; expected a finite number >= 0"),
        ({"damping": np.nan}, "damping = nan"),
        ({"weights": [[0.5, 0.6]]}, r"weights \[0.5, 0.6\]; expected numbers >= 0 that sum to 1"),
        ({"weights": [[1.5, -0.5]]}, r"weights \[1.5, -0.5\]"),
        ({"weights": [0.5, 0.5]}, r"weights of shape \(2,\)"),
        ({"weights": [[0.2, 0.3, 0.5]], "n": [3, 3, 3]}, "unit 0 has moments of 2 tasks; expected 3 tasks"),
        ({"units": []}, "no units"),
        ({"decoders": []}, r"decoders with \[\] tasks; expected 2 decoders with one task each"),
    ],
)
def test_what_has_no_meaning_is_refused(draw_unit, options, message):
    unit, decoder = draw_unit(2, 3, cross=True), draw_unit(1, 2)
    given = {"units": [unit, unit], "decoders": [decoder] * 2, "weights": LINE, "n": [N, N], **options}
    with pytest.raises(InputError, match=message):
        criterion_table(given.pop("units"), given.pop("decoders"), **given)


@pytest.mark.parametrize("weights", [[0.5, 0.5], [[]], [[0.5, 0.6]], [[1.5, -0.5]], [[np.nan, 1.0]]])
def test_every_table_takes_weights_on_the_simplex_alone(weights):
    with pytest.raises(InputError, match=r"^weights "):
        checked_weights(weights)


def test_weights_of_python_become_an_array():
    np.testing.assert_array_equal(checked_weights([(1, 0), (0, 1)]), np.eye(2), strict=True)


@pytest.mark.parametrize(
    ("damping", "holds"), [(0.0, True), (2, True), (-1e-9, False), (np.inf, False), (np.nan, False)]
)
def test_a_damping_is_a_finite_number_not_below_0(damping, holds):
    if holds:
        check_damping(damping)
        return
    with pytest.raises(InputError, match=rf"^damping = {damping}; expected a finite number >= 0"):
        check_damping(damping)


def test_files_of_the_theory_share_public_names_alone():
    for path in Path(criterion.__file__).parent.glob("*.py"):
        taken = [
            alias.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("forktail")
            for alias in node.names
        ]
        assert [name for name in taken if name.startswith("_")] == [], path.name
