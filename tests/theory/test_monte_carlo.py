"""The fast part of benchmarks/monte_carlo.py: predicted against simulated excess risk, few replicates, a fixed seed.

Tolerances are four standard errors of the simulation itself. docs/validation.md has the long run.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from forktail.theory.refined import refined_table

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
REPLICATES = 150


@pytest.fixture(scope="module")
def mc():
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(BENCHMARKS))
        module = importlib.import_module("monte_carlo")
        patched.setattr(module, "WEIGHTS", np.array([0.3, 0.5]))
        yield module


@pytest.fixture(scope="module")
def problems(mc):
    return [make() for make in mc.COUPLED]


@pytest.fixture(scope="module")
def cells(mc, problems):
    rng = np.random.default_rng(1)
    return [row for problem in problems for row in mc.compare(problem, REPLICATES, rng)]


def test_coupled_predictions_are_right_raw_and_refined(cells):
    """Four problems, both depths, both forms of Stage 2, three risks, damped and not."""
    covered = [row for row in cells if row["case"] != "relabelled"]
    assert {row["case"] for row in covered} == {"training", "shifted", "posterior", "damped"}
    wrong = [row for row in covered if not abs(row["z"]) < 4]
    assert wrong == []


def test_block_diagonal_k_is_optimistic_for_the_raw_assembly(cells):
    raw = [row for row in cells if row["assembly"] == "raw" and row["case"] == "training" and row["depth"]]
    assert all(row["block-diagonal"] < row["simulated"] - row["error"] for row in raw)
    worst = [row for row in raw if row["problem"] == "two layers" and row["depth"] == 2]
    assert all(2 * row["block-diagonal"] < row["simulated"] - 4 * row["error"] for row in worst)


def test_block_diagonal_k_can_mislead_about_sharing_where_refined_k_does_not(cells):
    """Two layers, all shared, w = 1/2: worth it after refinement by a little, but not by the block-diagonal K."""
    refined = next(
        row
        for row in cells
        if (row["problem"], row["case"], row["assembly"], row["depth"], row["weight"])
        == ("two layers", "training", "refined", 2, 0.5)
    )
    assert refined["block-diagonal"] > refined["simulated"] + 10 * refined["error"]
    assert abs(refined["z"]) < 4


@pytest.mark.parametrize(("assembly", "least", "most"), [("raw", -0.2, 0.45), ("refined", 0.1, 0.4)])
def test_coupling_the_last_unit_alone_is_not_enough(problems, assembly, least, most):
    """Everything shared, w = 1/2: the share of the gap between diagonal and coupled criterion that it closes."""
    for problem in problems:
        moments = problem.moments()
        options = {"weights": [[0.5, 0.5]], "n": problem.n, "assembly": assembly, "debiased": False}
        diagonal, last, coupled = (
            problem.n * float(refined_table(moments.last_layers(layers), **options).total[-1, 0]) for layers in range(3)
        )
        assert least < (last - diagonal) / (coupled - diagonal) < most, problem.name
        np.testing.assert_array_equal(moments.last_layers(2).curvature[0], moments.curvature[0])


def test_sandwich_is_stuck_at_one_half_and_pays_for_it(mc, problems):
    for problem in problems:
        predicted = mc.predict(problem, "training", 0.0, mc.FINE)["sandwich"]
        assert set(mc.FINE[predicted[1:].argmin(axis=1)]) == {0.5}
    rows = mc.choices(problems[0], REPLICATES, np.random.default_rng(2))
    loss = {row["criterion"]: row for row in rows if row["among"] == 2}
    assert loss["sandwich"]["loss"] > 4 * loss["sandwich"]["error"] > 0
    assert loss["K_ref"]["weight"] < 0.4


def test_each_reading_is_right_about_its_own_training_and_naive_about_none(mc):
    rows = mc.readings(4 * REPLICATES, np.random.default_rng(3))
    assert all(abs(row["z"]) < 4 for row in rows if row["reading"] != "naive")
    naive = next(row for row in rows if (row["reading"], row["weight"]) == ("naive", 0.5))
    np.testing.assert_allclose(
        naive["variance predicted"], 2 * naive["variance simulated"], atol=8 * naive["variance error"]
    )
    assert naive["variance error"] < 0.05 * naive["variance simulated"]


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_measured_positions_need_debiasing(mc, damping):
    rows = mc.plugged_in(100, np.random.default_rng(4), damping)
    assert all(abs(row["z"]) < 4 for row in rows)
    assert all(row["not debiased"] > row["K"] + 4 * row["not debiased, error"] for row in rows)


def test_which_risks_have_no_slope_at_the_optimum(mc, problems):
    """Weighting images by their label does: p(y | x) changes, so what K leaves out is of first order."""
    for problem in problems:
        best = [optimum[None] for optimum in problem.optimum]
        linear = problem.name.startswith("logistic")
        for prior in ["training", "shifted"] + ["posterior"] * linear:
            np.testing.assert_allclose(problem.slope(best, prior), 0, atol=1e-13)
        if linear:
            assert np.abs(problem.slope(best, "relabelled")).max() > 0.05


@pytest.mark.parametrize("prior", ["training", "shifted", "relabelled", "posterior"])
def test_gradients_against_differences_of_the_risk(problems, prior):
    for problem in problems:
        if not (problem.name.startswith("logistic") or prior in ("training", "shifted")):
            continue
        rng = np.random.default_rng(5)
        theta = [optimum + 0.1 * rng.normal(size=optimum.shape) for optimum in problem.optimum]
        first, stacked = len(theta[0]), np.concatenate(theta)
        step = 1e-5 * np.eye(len(stacked))
        ahead, behind = (problem.risk(np.split(stacked + s * step, [first], axis=1), prior) for s in (1, -1))
        found = problem.slope([x[None] for x in theta], prior)[0]
        np.testing.assert_allclose(found, (ahead - behind) / 2e-5, atol=1e-8)


def test_score_covariance_against_a_loop_over_pictures_and_labels(problems):
    for problem in problems[1:]:
        S = 0.0
        for picture, share in enumerate(problem.share):
            for label, probability in enumerate(problem.labels[picture]):
                mass, joint = np.zeros(len(problem.share)), np.zeros(problem.labels.shape)
                mass[picture] = joint[picture, label] = 1.0
                data = mass, joint
                g = np.concatenate([problem.gradient(data, t, problem.optimum[t][None])[0] for t in (0, 1)])
                S = S + share * probability * np.outer(g, g)
        np.testing.assert_allclose(problem.scores(), S, rtol=1e-9, atol=1e-12)


def test_common_noise_has_the_sign_that_the_problem_is_named_for(problems):
    for problem, sign in ((problems[1], -1), (problems[2], 1)):
        trunk, first = sum(problem.units), len(problem.optimum[0])
        common = problem.scores()[:first, first:].diagonal()[:trunk]
        assert np.all(sign * common > 0)


def test_gaussian_draws_have_the_stated_moments(problems):
    problem = problems[0]
    products, noise = problem.draw(np.random.default_rng(6), 4000)
    np.testing.assert_allclose(products.mean(axis=0), problem.inputs, atol=6e-4)
    stacked = np.concatenate([noise[:, :10, 0], noise[:, 10:, 1]], axis=1) * np.sqrt(problem.n)
    np.testing.assert_allclose(np.cov(stacked.T), problem.scores(), atol=0.35)


def test_the_command_writes_table_and_figure(mc, tmp_path, monkeypatch, capsys):
    table, figure = tmp_path / "table.json", tmp_path / "figure.png"
    arguments = ["monte_carlo.py", "--replicates", "3", "--out", str(table), "--figure", str(figure)]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(mc, "COUPLED", mc.COUPLED[1:2])
    mc.main()
    found = json.loads(table.read_text())
    assert found["replicates"] == 3
    assert all(len(row) == len(found["cells"]["columns"]) for row in found["cells"]["rows"])
    assert figure.stat().st_size > 10_000
    assert "naive" in capsys.readouterr().out
