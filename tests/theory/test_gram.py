"""Held to `refined_table`, which works with full matrices of parameters."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from forktail.errors import InputError
from forktail.theory.gram import UnitGram, gram_table
from forktail.theory.refined import CoupledMoments, refined_table

IMAGES, UNITS, N = 9, (2, 3, 1, 4), 70.0


def networks(rng, num_tasks):
    """Per-image gradients and positions of networks with 10 coordinates in their units and 2 to 4 in their decoders."""
    sizes = [12 + task for task in range(num_tasks)]
    gradients = [rng.normal(size=(IMAGES, size)) + 0.2 for size in sizes]
    return gradients, [rng.normal(size=size) for size in sizes]


def grams(gradients, position):
    edges = [0, *np.cumsum(UNITS)]
    units = [
        UnitGram.of([g[:, start:stop] for g in gradients], [u[start:stop] for u in position])
        for start, stop in itertools.pairwise(edges)
    ]
    return units, [UnitGram.of(g[None, :, 10:], u[None, 10:]) for g, u in zip(gradients, position, strict=True)]


@pytest.mark.parametrize("num_tasks", [2, 3])
@pytest.mark.parametrize("assembly", ["raw", "refined"])
@pytest.mark.parametrize("stage2", ["shared", "whole"])
@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("damping", [0.03, 2.0])
def test_against_full_matrices(rng, num_tasks, assembly, stage2, debiased, damping):
    """Fewer images than parameters, every term by itself."""
    gradients, position = networks(rng, num_tasks)
    weights = np.vstack([rng.dirichlet(np.ones(num_tasks), size=4), np.eye(num_tasks)[-1]])
    options = {"weights": weights, "n": N, "damping": damping, "assembly": assembly, "stage2": stage2}
    options["debiased"] = debiased
    found = gram_table(*grams(gradients, position), **options)
    expected = refined_table(CoupledMoments.of_gradients(UNITS, gradients, position), **options)
    for name in ("shared_variance", "shared_bias", "own_variance"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-8, atol=1e-11)
    assert (found.reading, found.debiased, found.damping) == (assembly, debiased, damping)


def test_coordinates_may_come_in_pieces(rng):
    gradients, position = rng.normal(size=(2, IMAGES, 20)), rng.normal(size=(2, 20))
    whole = UnitGram.of(gradients, position)
    parts = UnitGram.of(gradients[..., :7], position[:, :7]).merge(UnitGram.of(gradients[..., 7:], position[:, 7:]))
    for field in dataclasses.fields(UnitGram):
        np.testing.assert_allclose(getattr(parts, field.name), getattr(whole, field.name), rtol=1e-12, atol=1e-12)


def test_inner_products_against_a_loop(rng):
    gradients, position = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 5))
    gram = UnitGram.of(gradients, position)
    for t, u in itertools.product(range(2), repeat=2):
        np.testing.assert_allclose(gram.positions[t, u], sum(position[t] * position[u]))
        for i, j in itertools.product(range(3), repeat=2):
            np.testing.assert_allclose(gram.gradients[t, u, i, j], sum(gradients[t, i] * gradients[u, j]))
            np.testing.assert_allclose(gram.moves[t, u, i], sum(gradients[t, i] * position[u]))


def test_a_hundred_thousand_parameters_against_full_matrices_in_the_span_of_the_gradients(rng):
    """Directions without gradient and without movement cost nothing, so a basis of the others says it all."""
    gradients, position = 0.1 * rng.normal(size=(2, 16, 100_000)), 0.01 * rng.normal(size=(2, 100_000))
    unit = UnitGram.of(gradients, position)
    decoders = [UnitGram.of(gradients[t : t + 1, :, :5], position[t : t + 1, :5]) for t in (0, 1)]
    options = {"weights": [[0.5, 0.5], [0.2, 0.8]], "n": 16, "damping": 3.0}
    found = gram_table([unit, unit], decoders, **options)

    basis, _ = np.linalg.qr(np.vstack([*gradients, position]).T)
    size = basis.shape[1]
    network = [np.hstack([g @ basis, g @ basis, g[:, :5]]) for g in gradients]
    moved = [np.concatenate([u @ basis, u @ basis, u[:5]]) for u in position]
    expected = refined_table(CoupledMoments.of_gradients((size, size), network, moved), **options)
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, "damping = 0"),
        ({"damping": -1.0}, "damping"),
        ({"assembly": "both"}, 'assembly "both"'),
        ({"weights": [[1.0]]}, "weights of 1 tasks"),
    ],
)
def test_options_that_mean_nothing_are_refused(rng, options, message):
    with pytest.raises(InputError, match=message):
        gram_table(*grams(*networks(rng, 2)), **{"weights": [[0.5, 0.5]], "n": N, "damping": 1.0} | options)


def test_shapes_that_do_not_fit_are_refused(rng):
    _, decoders = grams(*networks(rng, 2))
    options = {"weights": [[0.5, 0.5]], "n": N, "damping": 1.0}
    with pytest.raises(InputError, match="no units"):
        gram_table([], decoders, **options)
    with pytest.raises(InputError, match=r"part 0 with inner products \(1, 1, 9, 9\)"):
        gram_table(decoders, decoders, **options)
    with pytest.raises(InputError, match="gradients of shape"):
        UnitGram.of(np.zeros((2, 3, 4)), np.zeros((2, 3)))
