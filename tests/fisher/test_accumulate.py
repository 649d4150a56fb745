"""Sums by tiles against sums over all gradients at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forktail.fisher.accumulate import Totals, accumulate
from forktail.fisher.sources import Computed, Dense, Outer, Rows, Total, whole_rows


def zeros(num_tasks, *shape):
    def new():
        return torch.zeros(shape, dtype=torch.float64)

    pairs = {(t, u): new() for t in range(num_tasks) for u in range(t, num_tasks)}
    return Totals(pairs, [new() for _ in range(num_tasks)], [new() for _ in range(num_tasks)])


def assert_by_definition(totals, gradients, weights):
    """gradients: K tensors (N, R, W)."""
    for (t, u), found in totals.products.items():
        torch.testing.assert_close(found, (gradients[t] * gradients[u]).sum(0))
    for task, values in enumerate(gradients):
        torch.testing.assert_close(totals.first[task], values.sum(0))
        torch.testing.assert_close(totals.weighted[task], (weights[:, None, None] * values.square()).sum(0))


def draw(kind, num_images, tokens, rows, width):
    def normal(*shape):
        return torch.randn(shape, dtype=torch.float64)

    if kind == "outer":
        return Outer(normal(num_images, tokens, rows), normal(num_images, tokens, width))
    if kind == "rows":
        return Rows(normal(num_images, tokens, width), torch.randint(rows, (num_images, tokens)), None)
    values = normal(num_images, rows, width)
    if kind == "total":
        return Total([Dense(values), draw("rows", num_images, tokens, rows, width)], values.shape[1:])
    return Dense(values) if kind == "dense" else Computed(values.shape[1:], lambda images: values[images])


KINDS = st.sampled_from(["outer", "rows", "dense", "computed", "total"])


@settings(max_examples=120, deadline=None)
@given(
    kinds=st.lists(KINDS, min_size=1, max_size=3),
    shape=st.tuples(*[st.integers(1, 5)] * 4),
    tile=st.integers(1, 200),
    step=st.integers(1, 3),
    data=st.data(),
)
def test_tiles_do_not_show(kinds, shape, tile, step, data):
    """Any sources, any shape, any size of the tile, every so many images."""
    num_images, _, rows, width = shape
    torch.manual_seed(data.draw(st.integers(0, 5)))
    sources, weights = [draw(kind, *shape) for kind in kinds], torch.rand(num_images, dtype=torch.float64)
    start = data.draw(st.integers(0, num_images))
    totals = zeros(len(kinds), rows, width)
    accumulate(sources, weights, totals, range(start, num_images, step), tile)
    images = slice(start, num_images, step)
    gradients = [whole_rows(source, rows, images, slice(0, rows)) for source in sources]
    assert_by_definition(totals, gradients, weights[images])


def test_the_same_rows_of_two_networks_stay_few():
    """Two networks that look the same words up: only those rows are touched."""
    index = torch.tensor([[2, 0], [2, 2]])
    sources = [Rows(torch.randn(2, 2, 3), index, None) for _ in range(2)]
    totals = zeros(2, 5, 3)
    accumulate(sources, torch.ones(2), totals, range(2))
    gradients = [whole_rows(source, 5, slice(0, 2), slice(0, 5)).double() for source in sources]
    np.testing.assert_allclose(totals.products[0, 1], (gradients[0] * gradients[1]).sum(0), rtol=1e-5)
    assert totals.products[0, 1][[1, 3, 4]].abs().max() == 0


@pytest.mark.parametrize("tokens", [1, 3])
def test_sums_by_hand(tokens):
    """Two tasks, two images, one coordinate: g_A = (1, 2), g_B = (3, -1), weights (1, 10), whatever the tokens."""
    ones = torch.ones(2, tokens, 1) / tokens
    sources = [Outer(torch.tensor(g)[:, None, None].expand(2, tokens, 1), ones) for g in ([1.0, 2.0], [3.0, -1.0])]
    totals = zeros(2, 1, 1)
    accumulate(sources, torch.tensor([1.0, 10.0]), totals, range(2))
    found = [totals.products[pair].item() for pair in ((0, 0), (0, 1), (1, 1))]
    np.testing.assert_allclose(found, [5, 1, 10], rtol=1e-6)
    np.testing.assert_allclose([total.item() for total in totals.first], [3, 2], rtol=1e-6)
    np.testing.assert_allclose([total.item() for total in totals.weighted], [41, 19], rtol=1e-6)


def test_many_images_lose_nothing():
    """A million equal squares, 64 at a time: a total in single precision would be off by a percent."""
    source, total = Dense(torch.full((64, 1), 0.1)), torch.zeros(1, 1, dtype=torch.float64)
    for _ in range(15_625):
        accumulate([source], None, Totals({(0, 0): total}), range(64))
    np.testing.assert_allclose(total, 1e6 * float(np.float32(0.1)) ** 2, rtol=2e-7)
