"""Equation numbers are those of docs/validation.md."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from forktail.errors import InputError
from forktail.theory import criterion_table, select
from forktail.theory.refined import CoupledMoments, refined_table

N = 40.0
LINE = np.stack([np.linspace(0, 1, 11), 1 - np.linspace(0, 1, 11)], axis=1)
UNITS = (1, 2, 2)


def spd(rng, size):
    root = rng.normal(size=(size, size + 3))
    return root @ root.T / size


def coupled(rng, num_tasks=2, *, own_risk=False, sizes=(7, 8, 6)) -> CoupledMoments:
    """Random moments of networks with 5 coordinates in their units and 1 to 3 in their decoders."""
    sizes = sizes[:num_tasks]
    H = [spd(rng, size) for size in sizes]
    risk = spd(rng, sum(sizes)) if own_risk else None
    return CoupledMoments(UNITS, H, spd(rng, sum(sizes)), [rng.normal(size=size) for size in sizes], risk)


def blocks(matrix, encoder):
    return matrix[:encoder, :encoder], matrix[:encoder, encoder:], matrix[encoder:, encoder:]


def of_task(moments, matrix, t, u):
    starts = moments.starts
    return matrix[starts[t] : starts[t + 1], starts[u] : starts[u + 1]]


# ---- the formulas as people write them, two tasks, undamped


def schur_form(moments, encoder, w):
    """Schur complements and what is made of them, for two tasks without damping."""
    v = 1 - w
    H = moments.curvature
    S = [[of_task(moments, moments.scores, t, u) for u in (0, 1)] for t in (0, 1)]
    P, R, Hb, C = [], [], [], []
    for matrix in H:
        EE, ED, DD = blocks(matrix, encoder)
        P.append(np.hstack([np.eye(encoder), -ED @ np.linalg.inv(DD)]))
        R.append(np.vstack([np.eye(encoder), -np.linalg.inv(DD) @ ED.T]))
        Hb.append(EE - ED @ np.linalg.inv(DD) @ ED.T)
        C.append(EE - Hb[-1])
    Sb = [[P[t] @ S[t][u] @ P[u].T for u in (0, 1)] for t in (0, 1)]
    J = np.linalg.inv(w * Hb[0] + v * Hb[1])
    Sw = w * w * Sb[0][0] + v * v * Sb[1][1] + w * v * (Sb[0][1] + Sb[1][0])
    delta = moments.position[1][:encoder] - moments.position[0][:encoder]
    b = [v * J @ Hb[1] @ delta, -w * J @ Hb[0] @ delta]
    return SimpleNamespace(H=H, S=S, P=P, R=R, Hb=Hb, C=C, J=J, Sw=Sw, b=b)


def k_ref(moments, encoder, w):
    f = schur_form(moments, encoder, w)
    variance = np.trace((f.Hb[0] + f.Hb[1]) @ f.J @ f.Sw @ f.J) / (2 * N)
    bias = sum(f.b[t] @ f.Hb[t] @ f.b[t] for t in (0, 1)) / 2
    own = sum(np.trace(np.linalg.inv(f.H[t][encoder:, encoder:]) @ f.S[t][t][encoder:, encoder:]) for t in (0, 1))
    return variance, bias, own / (2 * N)


@pytest.mark.parametrize("depth", [1, 2])
def test_refined_is_k_with_schur_complements(rng, depth):
    moments = coupled(rng)
    table = refined_table(moments, weights=LINE, n=N, debiased=False)
    for column, (w, _) in enumerate(LINE):
        found = [getattr(table, name)[depth, column] for name in ("shared_variance", "shared_bias", "own_variance")]
        np.testing.assert_allclose(found, k_ref(moments, moments.offsets[depth], w), rtol=1e-10)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("w", [0.0, 0.3, 0.5, 1.0])
def test_raw_adds_what_decoders_pay_that_stay_behind(rng, depth, w):
    """K_raw = K_ref + 1/2 sum E (e_w - e_t)' C_t (e_w - e_t) - sum E[g_D' H_DD^-1 H_DE (e_w - e_t)]."""
    moments = coupled(rng)
    encoder = moments.offsets[depth]
    f = schur_form(moments, encoder, w)
    expected = sum(k_ref(moments, encoder, w))
    for t in (0, 1):
        share = [w, 1 - w]
        pull = [f.J * share[j] for j in (0, 1)]  # e_w = ... - sum_j pull_j P_j g_j, e_t = ... - Hb_t^-1 P_t g_t
        move = [-pull[j] @ f.P[j] for j in (0, 1)]
        move[t] += np.linalg.inv(f.Hb[t]) @ f.P[t]
        spread = sum(move[j] @ f.S[j][k] @ move[k].T for j in (0, 1) for k in (0, 1)) / N
        expected += (f.b[t] @ f.C[t] @ f.b[t] + np.trace(f.C[t] @ spread)) / 2
        _, ED, DD = blocks(f.H[t], encoder)
        with_own = sum(move[j] @ f.S[j][t][:, encoder:] for j in (0, 1)) / N  # Cov(e_w - e_t, g_D)
        expected -= np.trace(np.linalg.inv(DD) @ ED.T @ with_own)
    found = refined_table(moments, weights=[[w, 1 - w]], n=N, assembly="raw", debiased=False).total[depth, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("w", [0.2, 0.7])
def test_a_risk_of_its_own_is_seen_through_the_following_decoder(rng, w):
    """R'MR, H_DD^-1 M_DD H_DD^-1, and the cross term -tr[Q Cov(g_D, e_w)], Q = R' M[:, D] H_DD^-1."""
    moments = coupled(rng)
    M = [spd(rng, 7), spd(rng, 8)]
    risk = np.zeros((15, 15))
    risk[:7, :7], risk[7:, 7:] = M
    moments = dataclasses.replace(moments, risk=risk)
    encoder = moments.offsets[1]
    f = schur_form(moments, encoder, w)
    expected = 0.0
    for t in (0, 1):
        inverse, R = np.linalg.inv(f.H[t][encoder:, encoder:]), f.R[t]
        seen = R.T @ M[t] @ R
        expected += np.trace(seen @ f.J @ f.Sw @ f.J) / (2 * N) + f.b[t] @ seen @ f.b[t] / 2
        expected += np.trace(inverse @ M[t][encoder:, encoder:] @ inverse @ f.S[t][t][encoder:, encoder:]) / (2 * N)
        moved = -f.J @ sum((w, 1 - w)[j] * f.P[j] @ f.S[j][t][:, encoder:] for j in (0, 1)) / N
        expected -= np.trace(R.T @ M[t][:, encoder:] @ inverse @ moved.T)
    found = refined_table(moments, weights=[[w, 1 - w]], n=N, debiased=False).total[1, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


# ---- all options at once, by solving the trainings themselves


def slow_cell(moments, depth, w, assembly, stage2, damping):
    """Train quadratics by solving linear systems: without noise for the mean, and once per gradient coordinate.

    Losses are 1/2 (x - x*)'H(x - x*) + g'x + damping/2 |x|^2, in coordinates where the initial weights are 0.
    """
    K, starts = moments.num_tasks, moments.starts
    damped = [H + damping * np.eye(len(H)) for H in moments.curvature]
    pulls = [A @ u for A, u in zip(damped, moments.position, strict=True)]  # H x*, from the damped optima

    def train(noise):
        g = np.split(noise, starts[1:-1])
        alone = [np.linalg.solve(A, r - x) for A, r, x in zip(damped, pulls, g, strict=True)]
        if depth == 0:
            return np.concatenate(alone)
        size = moments.offsets[-1 if stage2 == "whole" else depth]
        encoder = moments.offsets[depth]
        own = [np.arange(starts[t] + size, starts[t + 1]) - (starts[t] + size) for t in range(K)]
        begin = size + np.cumsum([0, *map(len, own)])
        system, right = np.zeros((begin[-1], begin[-1])), np.zeros(begin[-1])
        for t in range(K):
            place = np.concatenate([np.arange(size), begin[t] + own[t]])
            system[np.ix_(place, place)] += w[t] * damped[t]
            right[place] += w[t] * (pulls[t] - g[t])
        shared = np.linalg.lstsq(system, right)[0][:encoder]
        assembled = []
        for t in range(K):
            decoder = alone[t][encoder:]
            if assembly == "refined":
                A = damped[t]
                decoder = np.linalg.solve(
                    A[encoder:, encoder:], (pulls[t] - g[t])[encoder:] - A[encoder:, :encoder] @ shared
                )
            assembled.append(np.concatenate([shared, decoder]))
        return np.concatenate(assembled)

    M = moments.risk
    if M is None:
        M = np.zeros((starts[-1], starts[-1]))
        for t in range(K):
            M[starts[t] : starts[t + 1], starts[t] : starts[t + 1]] = moments.curvature[t]
    damped_optimum = np.concatenate(moments.position)
    optimum = np.concatenate([np.linalg.solve(H, r) for H, r in zip(moments.curvature, pulls, strict=True)])
    mean = train(np.zeros(starts[-1]))
    response = np.stack([train(row) - mean for row in np.eye(starts[-1])], axis=1)

    def risk(x):
        return (x - optimum) @ M @ (x - optimum) / 2

    return risk(mean) - risk(damped_optimum) + np.trace(M @ response @ moments.scores @ response.T) / (2 * N)


@pytest.mark.parametrize("num_tasks", [2, 3])
@pytest.mark.parametrize("assembly", ["raw", "refined"])
@pytest.mark.parametrize("stage2", ["shared", "whole"])
@pytest.mark.parametrize("damping", [0.0, 0.4])
@pytest.mark.parametrize("own_risk", [False, True], ids=["M = H", "joint M"])
def test_against_trained_quadratics(rng, num_tasks, assembly, stage2, damping, own_risk):
    moments = coupled(rng, num_tasks, own_risk=own_risk)
    weights = np.vstack([rng.dirichlet(np.ones(num_tasks), size=3), np.eye(num_tasks)[0]])
    options = {"assembly": assembly, "stage2": stage2, "damping": damping}
    table = refined_table(moments, weights=weights, n=N, debiased=False, **options)
    expected = [[slow_cell(moments, depth, w, **options) for w in weights] for depth in table.depths]
    np.testing.assert_allclose(table.total, expected, rtol=1e-9)
    assert (table.reading, table.damping) == (assembly, damping)


@pytest.mark.parametrize("damping", [0.0, 0.4])
@pytest.mark.parametrize("own_risk", [False, True])
def test_debiasing_is_right_on_average(rng, damping, own_risk):
    """K is quadratic in the positions, so a few points with the right mean and covariance give its exact mean."""
    truth = coupled(rng, own_risk=own_risk)
    inverse = np.zeros((15, 15))
    for t, H in enumerate(truth.curvature):
        place = slice(truth.starts[t], truth.starts[t + 1])
        inverse[place, place] = np.linalg.inv(H + damping * np.eye(len(H)))
    root = np.linalg.cholesky(inverse @ truth.scores @ inverse / N) * np.sqrt(15)
    options = {"weights": LINE, "n": N, "damping": damping}
    totals = []
    for shift in (*root.T, *-root.T):
        position = [u + x for u, x in zip(truth.position, np.split(shift, [7]), strict=True)]
        totals.append(refined_table(dataclasses.replace(truth, position=position), **options).total)
    expected = refined_table(truth, debiased=False, **options).total
    np.testing.assert_allclose(np.mean(totals, axis=0), expected, rtol=1e-10)


# ---- properties


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("own_risk", [False, True])
def test_without_coupling_it_is_the_diagonal_criterion(rng, damping, debiased, own_risk):
    moments = coupled(rng, 3)
    H = [np.diag(matrix.diagonal()) for matrix in moments.curvature]
    risk = np.diag(spd(rng, 21).diagonal()) if own_risk else None
    moments = dataclasses.replace(moments, curvature=H, risk=risk)
    weights = rng.dirichlet(np.ones(3), size=5)
    options = {"weights": weights, "debiased": debiased, "damping": damping}
    expected = criterion_table(*moments.diagonals(), n=[N] * 3, **options)
    for assembly in ("raw", "refined"):
        found = refined_table(moments, n=N, assembly=assembly, **options)
        for name in ("shared_variance", "shared_bias", "own_variance"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-13)


def test_block_diagonal_curvature_knows_no_refinement(rng):
    moments = coupled(rng, own_risk=True).block_diagonal()
    tables = [
        refined_table(moments, weights=LINE, n=N, assembly=assembly, stage2=stage2).total
        for assembly in ("raw", "refined")
        for stage2 in ("shared", "whole")
    ]
    for table in tables[1:]:
        np.testing.assert_allclose(table, tables[0], rtol=1e-10)


def test_block_diagonal_keeps_units_and_decoders_and_nothing_between(rng):
    moments = coupled(rng, own_risk=True)
    kept = moments.block_diagonal()
    unit_of = [0, 1, 1, 2, 2, 3, 3]
    for i in range(7):
        for j in range(7):
            same = unit_of[i] == unit_of[j]
            assert kept.curvature[0][i, j] == (moments.curvature[0][i, j] if same else 0)
            assert kept.risk[i, 7 + j] == (moments.risk[i, 7 + j] if same else 0)
    np.testing.assert_array_equal(kept.scores, moments.scores)


def test_diagonals_are_aligned_across_tasks(rng):
    moments = coupled(rng, own_risk=True)
    units, decoders = moments.diagonals()
    assert [unit.num_coordinates for unit in units] == [1, 2, 2]
    assert [decoder.num_coordinates for decoder in decoders] == [2, 3]
    for place, (unit, p) in enumerate([(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]):
        for t in (0, 1):
            assert units[unit].curvature[t, p] == moments.curvature[t][place, place]
            assert units[unit].position[t, p] == moments.position[t][place]
            assert units[unit].risk[t, p] == moments.risk[7 * t + place, 7 * t + place]
            for u in (0, 1):
                assert units[unit].cross[t, u, p] == moments.scores[7 * t + place, 7 * u + place]
    np.testing.assert_array_equal(decoders[1].scores[0], moments.scores.diagonal()[12:])


def test_the_paper_case_selects_one_half_for_full_matrices_too(rng):
    """S = M = H without common noise: 1/2 is best at every depth, refined, shared to s (docs/theory.md, fact 1)."""
    moments = coupled(rng)
    S = np.zeros((15, 15))
    S[:7, :7], S[7:, 7:] = moments.curvature
    table = refined_table(dataclasses.replace(moments, scores=S), weights=LINE, n=N, debiased=False)
    assert table.total[1:].argmin(axis=1).tolist() == [5, 5]
    assert np.all(table.total[1:, 4:7:2] > table.total[1:, 5:6])


def test_refinement_never_hurts_when_the_risk_is_the_loss_and_scores_are_its_fisher(rng):
    moments = coupled(rng)
    S = np.zeros((15, 15))
    S[:7, :7], S[7:, 7:] = moments.curvature
    moments = dataclasses.replace(moments, scores=S)
    raw, refined = (refined_table(moments, weights=LINE, n=N, assembly=a).total for a in ("raw", "refined"))
    assert np.all(raw[1:] > refined[1:])


@pytest.mark.parametrize("assembly", ["raw", "refined"])
@pytest.mark.parametrize("stage2", ["shared", "whole"])
def test_nothing_shared_does_not_depend_on_weight_and_tasks_can_be_swapped(rng, assembly, stage2):
    moments = coupled(rng, own_risk=True)
    order = np.concatenate([np.arange(7, 15), np.arange(7)])
    swapped = CoupledMoments(
        UNITS,
        moments.curvature[::-1],
        moments.scores[np.ix_(order, order)],
        moments.position[::-1],
        moments.risk[np.ix_(order, order)],
    )
    options = {"n": N, "assembly": assembly, "stage2": stage2, "damping": 0.2}
    found = refined_table(moments, weights=LINE, **options).total
    np.testing.assert_allclose(refined_table(swapped, weights=LINE[:, ::-1], **options).total, found, rtol=1e-10)
    assert np.ptp(found[0]) == 0


@pytest.mark.parametrize("assembly", ["raw", "refined"])
def test_scaling_the_loss_scales_the_criterion(rng, assembly):
    moments, k = coupled(rng, own_risk=True), 3.0
    scaled = CoupledMoments(
        UNITS, [k * H for H in moments.curvature], k * k * moments.scores, moments.position, k * moments.risk
    )
    found = refined_table(scaled, weights=LINE, n=N, assembly=assembly, damping=0.2 * k).total
    expected = k * refined_table(moments, weights=LINE, n=N, assembly=assembly, damping=0.2).total
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_at_full_depth_both_forms_of_stage_2_are_one(rng):
    moments = coupled(rng, own_risk=True)
    shared, whole = (refined_table(moments, weights=LINE, n=N, stage2=s).total for s in ("shared", "whole"))
    np.testing.assert_allclose(shared[-1], whole[-1], rtol=1e-12)
    assert np.max(np.abs(shared[1] - whole[1])) > 1e-3


def test_the_table_can_be_selected_from(rng):
    table = refined_table(coupled(rng), weights=LINE, n=N)
    selection = select(table)
    assert selection.reading == "refined"
    assert selection.value == table.total.min()


def test_moments_of_gradients_against_a_loop(rng):
    gradients = [rng.normal(size=(30, size)) + 0.3 for size in (6, 7)]
    r = rng.uniform(size=30)
    moments = CoupledMoments.of_gradients(UNITS, gradients, [np.zeros(6), np.zeros(7)], image_weights=r)
    stacked = np.concatenate(gradients, axis=1)
    S, M = np.zeros((13, 13)), np.zeros((13, 13))
    for image, weight in zip(stacked, r, strict=True):
        centred = image - stacked.mean(axis=0)
        S += np.outer(centred, centred) / 30
        M += weight * np.outer(image, image) / r.sum()
    np.testing.assert_allclose(moments.scores, S, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(moments.risk[:6, :6], M[:6, :6], rtol=1e-12)
    np.testing.assert_array_equal(moments.risk[:6, 6:], np.zeros((6, 7)))
    np.testing.assert_allclose(
        moments.curvature[1], np.mean([np.outer(g, g) for g in gradients[1]], axis=0), rtol=1e-12
    )
    given = CoupledMoments.of_gradients(UNITS, gradients, [np.zeros(6), np.zeros(7)], curvature=[np.eye(6), np.eye(7)])
    assert given.risk is None
    np.testing.assert_array_equal(given.curvature[0], np.eye(6))


# ---- refusals


def test_a_direction_that_the_data_do_not_determine_is_refused_without_damping(rng):
    moments = coupled(rng)
    singular = np.outer(np.arange(7.0), np.arange(7.0))
    moments = dataclasses.replace(moments, curvature=[singular, moments.curvature[1]])
    with pytest.raises(InputError, match=r"curvature of task 0 has the smallest eigenvalue .* use damping"):
        refined_table(moments, weights=LINE, n=N)
    assert np.all(np.isfinite(refined_table(moments, weights=LINE, n=N, damping=0.1).total))
    with pytest.raises(InputError, match="a risk of its own needs the undamped curvature"):
        refined_table(dataclasses.replace(moments, risk=np.eye(15)), weights=LINE, n=N, damping=0.1)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("units", (), "units of sizes"),
        ("units", (5, 5), "networks of"),
        ("curvature", [np.triu(np.ones((7, 7))), np.eye(8)], "curvature of task 0 is not symmetric"),
        ("scores", np.eye(14), r"scores of shape \(14, 14\)"),
        ("scores", np.full((15, 15), np.nan), "scores has entries that are not finite"),
        ("risk", np.eye(7), "risk of shape"),
        ("position", [np.zeros(7), np.zeros(7)], "positions of shapes"),
        ("position", [np.full(7, np.inf), np.zeros(8)], "position has entries"),
    ],
)
def test_moments_that_do_not_fit_are_refused(rng, field, value, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(coupled(rng), **{field: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"assembly": "both"}, 'assembly "both"'),
        ({"stage2": "none"}, 'stage2 "none"'),
        ({"n": 0}, "n = 0"),
        ({"damping": -1.0}, "damping"),
        ({"weights": [[0.2, 0.3, 0.5]]}, "weights of 3 tasks"),
        ({"weights": [[0.9, 0.3]]}, "weights"),
    ],
)
def test_options_that_mean_nothing_are_refused(rng, options, message):
    with pytest.raises(InputError, match=message):
        refined_table(coupled(rng), **{"weights": LINE, "n": N} | options)
