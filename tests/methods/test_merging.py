"""The merge of Stage-1 networks, parameter by parameter."""

import numpy as np
import pytest
import torch
from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.layered import Layered
from forktail.labels import TaskSplit
from forktail.methods._merging import merge
from forktail.training.objective import freeze

SPLIT = TaskSplit((np.array([1, 3, 2]), np.array([0, 4])))
WEIGHTS = (0.3, 0.7)


def chain(frozen_stem=False):
    stem = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    if frozen_stem:
        freeze(stem)
    return Layered(stem, [nn.Linear(3, 3), nn.Linear(3, 3)], nn.LayerNorm(3), num_features=3)


def scattered(network, seed):
    """The same network with every number drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.ndim == 0:
            value.fill_(seed)  # batches that a batch norm has seen
    return network


@pytest.fixture
def specialists():
    return [scattered(Forked.single(chain(), size), seed) for seed, size in ((1, 3), (2, 2))]


@pytest.fixture
def curvature():
    random = np.random.default_rng(0)
    found = [random.random((2, size)) for size in (4 * 3 + 3 + 6, 12, 12)]
    found[0][0, :5] = 0  # of the first task alone
    found[1][:, 3:] = 0  # of both
    return found


def slow_mean(values, curvatures):
    shares = [w * h for w, h in zip(WEIGHTS, curvatures, strict=True)]
    if sum(shares) == 0:
        shares = WEIGHTS
    return sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares)


@pytest.mark.parametrize("depth", [1, 2])
def test_shared_parameters_are_the_mean_weighted_by_curvature(specialists, curvature, depth):
    network = Forked(chain(), SPLIT, depth)
    merge(network, specialists, curvature, WEIGHTS)
    for index in range(depth + 1):
        flat = [torch.cat([p.flatten() for p in s.layer(0, index).parameters()]).tolist() for s in specialists]
        found = torch.cat([p.flatten() for p in network.layer(0, index).parameters()]).tolist()
        expected = [
            slow_mean([values[p] for values in flat], curvature[index][:, p].tolist()) for p in range(len(found))
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    norm, parts = network.layer(0, 0)[1], [s.layer(0, 0)[1] for s in specialists]
    torch.testing.assert_close(norm.running_mean, 0.3 * parts[0].running_mean + 0.7 * parts[1].running_mean)
    assert norm.num_batches_tracked == 1


def test_what_is_not_shared_comes_from_its_own_task(specialists, curvature):
    network = Forked(chain(), SPLIT, 1)
    merge(network, specialists, curvature, WEIGHTS)
    for task, specialist in enumerate(specialists):
        pairs = [(network.layer(task, index), specialist.layer(0, index)) for index in (2, 3)]
        for mine, theirs in [*pairs, (network.classifier(task), specialist.classifier(0))]:
            for name, value in mine.state_dict().items():
                torch.testing.assert_close(value, theirs.state_dict()[name], rtol=0, atol=0)


def test_a_frozen_stem_stays_as_it_is(curvature):
    alone = [scattered(Forked.single(chain(frozen_stem=True), size), 3) for size in (3, 2)]
    network = Forked(chain(frozen_stem=True), SPLIT, 2)
    before = {name: value.clone() for name, value in network.layer(0, 0).state_dict().items()}
    merge(network, alone, [np.zeros((2, 0)), *curvature[1:]], WEIGHTS)
    for name, value in network.layer(0, 0).state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_sources_are_left_alone(specialists, curvature):
    before = [{name: value.clone() for name, value in s.state_dict().items()} for s in specialists]
    merge(Forked(chain(), SPLIT, 2), specialists, curvature, WEIGHTS)
    for specialist, states in zip(specialists, before, strict=True):
        for name, value in specialist.state_dict().items():
            torch.testing.assert_close(value, states[name], rtol=0, atol=0)
