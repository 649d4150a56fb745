"""Held to `refined_table` with the curvature that it assumes, and to the two forms that it lies between."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from forktail.theory import criterion_table
from forktail.theory.gram import UnitGram, gram_table
from forktail.theory.last_layers import last_layers_table
from forktail.theory.moments import UnitMoments
from forktail.theory.refined import CoupledMoments, refined_table

IMAGES, UNITS, N = 9, (2, 3, 1, 4), 70.0
EDGES = [0, *np.cumsum(UNITS).tolist()]
PARTS = [slice(start, stop) for start, stop in itertools.pairwise(EDGES)]


def network(rng, num_tasks=2):
    sizes = [12 + task for task in range(num_tasks)]
    gradients = [rng.normal(size=(IMAGES, size)) + 0.2 for size in sizes]
    return gradients, [rng.normal(size=size) for size in sizes]


def moments(gradients, position, part):
    """What `forktail.fisher.moments` measures."""
    g = np.stack([of_task[:, part] for of_task in gradients])
    cross = np.array([[np.mean(a * b, axis=0) - a.mean(0) * b.mean(0) for b in g] for a in g])
    curvature = np.mean(g**2, axis=1)
    scores = np.array([cross[task, task] for task in range(len(g))])
    return UnitMoments(curvature, scores, curvature, np.stack([u[part] for u in position]), cross)


def parts(gradients, position, last):
    """Early units, last units with coupling, decoders."""
    first = 0 if last == len(UNITS) - 1 else len(UNITS) - last
    early = [moments(gradients, position, part) for part in PARTS[:first]]
    units = [UnitGram.of([g[:, part] for g in gradients], [u[part] for u in position]) for part in PARTS[first:]]
    return early, units, [UnitGram.of(g[None, :, 10:], u[None, 10:]) for g, u in zip(gradients, position, strict=True)]


def assert_same(found, expected, rtol=1e-6):
    for name in ("shared_variance", "shared_bias", "own_variance"):
        values = getattr(expected, name)
        np.testing.assert_allclose(getattr(found, name), values, rtol=rtol, atol=rtol * np.abs(expected.total).max())


def weights_of(rng, num_tasks):
    return np.vstack([rng.dirichlet(np.ones(num_tasks), size=4), np.full(num_tasks, 1 / num_tasks)])


@pytest.mark.parametrize("num_tasks", [2, 3])
@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize("assembly", ["raw", "refined"])
@pytest.mark.parametrize("stage2", ["shared", "whole"])
@pytest.mark.parametrize("debiased", [False, True])
def test_exact_where_its_assumption_holds(rng, num_tasks, last, assembly, stage2, debiased):
    """Full matrices whose curvature is diagonal in the early units and has no entry beside them; S is full."""
    gradients, position = network(rng, num_tasks)
    options = {"weights": weights_of(rng, num_tasks), "n": N, "damping": 0.3, "assembly": assembly, "stage2": stage2}
    options["debiased"] = debiased
    coupled = CoupledMoments.of_gradients(UNITS, gradients, position).last_layers(last)
    found = last_layers_table(*parts(gradients, position, last), **options)
    assert_same(found, refined_table(coupled, **options))
    assert (found.reading, found.debiased, found.damping) == (f"{assembly}, last {last} units", debiased, 0.3)


@pytest.mark.parametrize("assembly", ["raw", "refined"])
def test_all_units_are_the_coupled_criterion(rng, assembly):
    gradients, position = network(rng)
    early, units, decoders = parts(gradients, position, len(UNITS) - 1)
    options = {"weights": weights_of(rng, 2), "n": N, "damping": 0.3, "assembly": assembly}
    found, expected = last_layers_table(early, units, decoders, **options), gram_table(units, decoders, **options)
    assert not early
    np.testing.assert_array_equal(found.total, expected.total)
    assert found.reading == assembly


@pytest.mark.parametrize("last", [0, 1, 2, 3])
@pytest.mark.parametrize("assembly", ["raw", "refined"])
def test_without_coupling_it_is_the_diagonal_criterion(rng, last, assembly):
    """Every image moves one parameter of each network alone, so all curvature is diagonal; images are shared."""
    gradients = [np.zeros((40, 12)) for _ in range(2)]
    for task, g in enumerate(gradients):
        g[np.arange(40), (np.arange(40) + 3 * task) % 12] = rng.normal(size=40)
    position = rng.normal(size=(2, 12))
    early, units, decoders = parts(gradients, position, last)
    diagonal = [moments(gradients, position, part) for part in PARTS]
    own = [moments([g], [u], slice(10, None)) for g, u in zip(gradients, position, strict=True)]
    weights = weights_of(rng, 2)
    expected = criterion_table(diagonal, own, weights=weights, n=[N] * 2, reading="general", damping=0.3)
    found = last_layers_table(early, units, decoders, weights=weights, n=N, damping=0.3, assembly=assembly)
    assert_same(found, expected)


def test_the_bound_of_the_early_units_is_kept(rng):
    gradients, position = network(rng)
    found = last_layers_table(*parts(gradients, position, 1), weights=weights_of(rng, 2), n=N, damping=0.3)
    assert found.bound.shape == found.term_bound.shape == found.total.shape == (4, 5)
    assert (found.bound[1:, :4] > 0).all()
