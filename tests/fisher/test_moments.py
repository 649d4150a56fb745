"""Moments against their definitions over stacked per-image gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forktail.backbones.forked import Forked
from forktail.errors import InputError
from forktail.fisher.moments import moments, moments_of_sums, positions
from forktail.fisher.per_image import gradient_sums
from forktail.fisher.reference import per_image_gradients
from forktail.theory import criterion_table


def all_gradients(problem, task, modules):
    """(N, d) gradients of one task with respect to the parameters of some modules, in float64."""
    network = problem.networks[task].eval()
    wanted = [id(p) for module in modules for p in module.parameters()]
    targets = problem.targets[:, problem.split.tasks[task].tolist()]
    by_name = per_image_gradients(network, problem.losses[task], problem.images, targets)
    names = {id(p): name for name, p in network.named_parameters()}
    return torch.cat([by_name[names[i]].flatten(1) for i in wanted], dim=1).double().numpy()


def flat(modules):
    return torch.cat([p.detach().double().flatten() for module in modules for p in module.parameters()]).numpy()


def grouped(problem, *groups, **options):
    """The moments, given the batches of each group."""
    return moments(problem.networks, problem.losses, problem.split, problem.starts, groups, chunk_size=3, **options)


def compute(problem, weighted=True, **options):
    return grouped(problem, problem.batches(4, 3, weighted=weighted), **options).whole


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_units_by_definition(problem):
    found = compute(problem).units
    assert len(found) == problem.networks[0].max_depth + 1
    weights = problem.weights.double().numpy()
    for index, unit in enumerate(found):
        g = [all_gradients(problem, task, [problem.networks[task].layer(0, index)]) for task in (0, 1)]
        for t in (0, 1):
            assert_close(unit.curvature[t], (g[t] ** 2).mean(0))
            assert_close(unit.scores[t], g[t].var(0))
            assert_close(unit.risk[t], np.average(g[t] ** 2, axis=0, weights=weights))
            layers = [networks[t].layer(0, index) for networks in (problem.networks, problem.starts)]
            assert_close(unit.position[t], flat(layers[:1]) - flat(layers[1:]))
            for u in (0, 1):
                covariance = ((g[t] - g[t].mean(0)) * (g[u] - g[u].mean(0))).mean(0)
                np.testing.assert_allclose(
                    unit.cross[t, u], covariance, rtol=0, atol=1e-6 * np.abs(g[t]).max() * np.abs(g[u]).max()
                )


def test_decoders_by_definition(problem):
    found = compute(problem).decoders
    top = problem.networks[0].max_depth + 1
    for task, unit in enumerate(found):
        end, begin = ([n[task].layer(0, top), n[task].classifier(0)] for n in (problem.networks, problem.starts))
        g = all_gradients(problem, task, end)
        assert unit.num_tasks == 1
        assert unit.cross is None
        assert_close(unit.curvature[0], (g**2).mean(0))
        assert_close(unit.scores[0], g.var(0))
        assert_close(unit.position[0], flat(end) - flat(begin))


def test_norm_of_the_mean_gradient(problem):
    expected = [
        np.linalg.norm(all_gradients(problem, task, [network]).mean(0)) for task, network in enumerate(problem.networks)
    ]
    np.testing.assert_allclose(compute(problem).gradient_norms, expected, rtol=1e-5)


def test_risk_is_the_curvature_without_weights(problem):
    found = compute(problem, weighted=False)
    for unit in [*found.units, *found.decoders]:
        np.testing.assert_array_equal(unit.risk, unit.curvature)


def test_scale_of_the_weights_does_not_matter(problem):
    scaled = problem._replace(weights=4 * problem.weights)
    for mine, theirs in zip(compute(problem).units, compute(scaled).units, strict=True):
        np.testing.assert_allclose(mine.risk, theirs.risk, rtol=1e-12)


def test_one_image_has_no_variance(problem):
    found = grouped(problem, problem.batches(1, 6)[:1]).whole
    for unit in found.units:
        assert unit.curvature.max() > 0
        np.testing.assert_allclose(unit.scores, 0, atol=1e-6 * unit.curvature.max())
        np.testing.assert_allclose(unit.cross, 0, atol=1e-6 * unit.curvature.max())


def test_merged_sums_give_the_same_moments(problem):
    parts = [gradient_sums(problem.networks, problem.losses, problem.split, [b]) for b in problem.batches(2, 5)]
    merged = moments_of_sums(parts[0].merge(parts[1]), positions(problem.networks, problem.starts))
    for mine, theirs in zip(merged.units, compute(problem).units, strict=True):
        for field in ("curvature", "scores", "risk", "position"):
            assert_close(getattr(mine, field), getattr(theirs, field))


def test_the_networks_are_their_own_start_at_the_start(problem):
    found = grouped(problem._replace(starts=problem.networks), problem.batches(7)).whole
    for unit in [*found.units, *found.decoders]:
        np.testing.assert_array_equal(unit.position, 0)


def test_starts_of_another_shape_are_refused(problem):
    starts = [Forked.single(start.path(0), 9) for start in problem.starts]
    with pytest.raises(InputError, match="starts that differ"):
        grouped(problem._replace(starts=starts), problem.batches(7))


def test_weights_that_add_up_to_nothing_are_refused(problem):
    nothing = problem._replace(weights=torch.zeros(7))
    with pytest.raises(InputError, match="add up to 0"):
        compute(nothing)


def assert_alike(found, expected, relative):
    for kind in ("units", "decoders"):
        for mine, theirs in zip(getattr(found, kind), getattr(expected, kind), strict=True):
            for field in ("curvature", "scores", "risk", "position", "cross"):
                values, wanted = getattr(mine, field), getattr(theirs, field)
                assert (values is None) == (wanted is None)
                if wanted is not None:
                    atol = relative * np.abs(wanted).max()
                    np.testing.assert_allclose(values, wanted, rtol=0, atol=atol, err_msg=field)


@pytest.mark.parametrize("problem", ["convolutional", "transformer"], indirect=True)
@pytest.mark.parametrize("weighted", [True, False])
def test_groups_merge_to_the_whole_and_one_can_be_left_out(problem, weighted):
    """A tensor whose gradients nearly cancel is all rounding in single precision."""
    problem = problem.double()
    batches = problem.batches(3, 2, 2, weighted=weighted)
    if not weighted:
        batches = [(inputs, targets, None) for inputs, targets, _ in batches]
    found = grouped(problem, *([one] for one in batches))
    np.testing.assert_array_equal(found.sizes, [3, 2, 2])
    assert_alike(found.whole, grouped(problem, batches).whole, 1e-12)
    for group in range(3):
        others = [one for number, one in enumerate(batches) if number != group]
        assert_alike(found.without(group), grouped(problem, others).whole, 1e-6)


@pytest.mark.parametrize("problem", ["convolutional"], indirect=True)
@pytest.mark.parametrize("reading", ["sandwich", "general"])
def test_the_table_of_merged_groups_is_that_of_no_groups(problem, reading):
    batches = problem.batches(3, 2, 2)
    tables = []
    for groups in ([[one] for one in batches], [batches]):
        units, decoders, _ = grouped(problem, *groups).whole
        options = {"weights": [[0.3, 0.7], [0.5, 0.5]], "n": [7, 7], "reading": reading}
        tables.append(criterion_table(units, decoders, **options))
    for term in ("shared_variance", "shared_bias", "own_variance"):
        np.testing.assert_allclose(*(getattr(table, term) for table in tables), rtol=1e-12)


@pytest.mark.parametrize("problem", ["convolutional"], indirect=True)
def test_a_single_group_cannot_be_left_out(problem):
    assert grouped(problem, problem.batches(7)).groups == []


@pytest.mark.parametrize("problem", ["convolutional"], indirect=True)
def test_no_group_is_refused(problem):
    with pytest.raises(InputError, match="no group of images"):
        grouped(problem)


@pytest.mark.parametrize("problem", ["convolutional"], indirect=True)
def test_what_no_other_group_has_is_nothing_without_it(problem):
    """A unit that one group alone moves has no curvature at all once the group is left out, not a rounded rest."""
    batches = problem.batches(3, 4)
    found = grouped(problem, *([one] for one in batches))
    for part in (*found.groups[1].units, *found.groups[1].decoders):
        part.products.zero_()
    for unit in found.without(0).units:
        np.testing.assert_array_equal(unit.curvature, 0)


@pytest.mark.parametrize("problem", ["convolutional"], indirect=True)
@pytest.mark.parametrize("kind", ["monte_carlo", "ggn"])
def test_another_fisher_is_the_curvature_and_the_risk_alone(problem, kind):
    """Scores are those of the true labels, whatever the curvature is estimated with."""
    empirical, other = compute(problem), compute(problem, kind=kind, seed=3)
    np.testing.assert_array_equal(other.gradient_norms, empirical.gradient_norms)
    for mine, theirs in zip((*other.units, *other.decoders), (*empirical.units, *empirical.decoders), strict=True):
        np.testing.assert_array_equal(mine.scores, theirs.scores)
        np.testing.assert_array_equal(mine.position, theirs.position)
        assert not np.array_equal(mine.curvature, theirs.curvature)
        assert not np.array_equal(mine.risk, mine.curvature)
    without = compute(problem, weighted=False, kind=kind, seed=3)
    for mine, theirs in zip(without.units, other.units, strict=True):
        np.testing.assert_array_equal(mine.curvature, theirs.curvature)
        np.testing.assert_array_equal(mine.risk, mine.curvature)
