from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from forktail.backbones.batch_norm import recompute_statistics
from forktail.backbones.forked import Forked, fork
from forktail.backbones.open import BackboneSpec, open_backbone
from forktail.labels import TaskSplit
from forktail.training.objective import freeze

SPLIT = TaskSplit((np.array([4, 0, 2]), np.array([3, 1])))


def trained(network, seed):
    """Move parameters and statistics away from where they began."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    for _ in range(3):
        network(torch.randn(8, 3, 16, 16) + seed)
    return network


def assembled(depth):
    spec = BackboneSpec("resnet8", weights="random", drop_path=0.5)
    backbone = open_backbone(spec, seed=0)
    joint = trained(Forked(backbone, SPLIT, backbone.depth), 1)
    return fork(
        joint, [trained(Forked.single(backbone, len(task)), 2 + t) for t, task in enumerate(SPLIT.tasks)], depth
    )


def test_what_is_fixed_keeps_its_statistics():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    freeze(network[0], "fixed")
    recompute_statistics(network, [torch.full((4, 2), 3.0)])
    assert network[0].running_mean.tolist() == [0, 0]
    assert network[1].running_mean.tolist() != [0, 0]


def norms(network):
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}


def by_hand(network, batches):
    """In float64: every layer normalises by the batch, and the moments of what it was given are averaged."""
    network = copy.deepcopy(network).double().eval()
    given = {name: [] for name in norms(network)}
    for name, layer in norms(network).items():
        layer.train().register_forward_pre_hook(lambda _, inputs, name=name: given[name].append(inputs[0]))
    for inputs in batches:
        network(inputs.double())
    sizes = torch.tensor([len(inputs) for inputs in batches], dtype=torch.float64)
    moments = {}
    for name, inputs in given.items():
        means = torch.stack([x.mean((0, 2, 3)) for x in inputs])
        variances = torch.stack([x.transpose(0, 1).flatten(1).var(1, unbiased=True) for x in inputs])
        moments[name] = [(sizes[:, None] * values).sum(0) / sizes.sum() for values in (means, variances)]
    return moments


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("sizes", [(6, 6, 6), (7, 7, 4)])
def test_an_assembled_network_gets_the_statistics_of_a_pass_in_float64(depth, sizes):
    network = assembled(depth)
    batches = torch.randn(18, 3, 16, 16).split(sizes)
    old = {name: layer.running_mean.clone() for name, layer in norms(network).items()}
    expected = by_hand(network, batches)
    recompute_statistics(network, batches)
    for name, layer in norms(network).items():
        mean, variance = expected[name]
        torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.running_var.double(), variance, rtol=1e-4, atol=1e-5)
        assert (layer.running_mean - old[name]).abs().max() > 1e-3, name


def test_full_batches_give_pytorchs_cumulative_average():
    network = assembled(2)
    twin = copy.deepcopy(network).eval()
    batches = torch.randn(12, 3, 16, 16).split(4)
    for layer in norms(twin).values():
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for inputs in batches:
            twin(inputs)
    recompute_statistics(network, batches)
    torch.testing.assert_close(network.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-6)


def test_what_was_there_before_does_not_matter_and_nothing_else_changes():
    network = assembled(2)
    network.shared.eval()
    modes = [module.training for module in network.modules()]
    parameters = [p.clone() for p in network.parameters()]
    twin = copy.deepcopy(network)
    for layer in norms(twin).values():
        layer.running_mean.fill_(float("nan"))
    batches = torch.randn(8, 3, 16, 16).split(4)
    for each in (network, twin):
        recompute_statistics(each, batches)
    torch.testing.assert_close(network.state_dict(), twin.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(list(network.parameters()), parameters, rtol=0, atol=0)
    assert [module.training for module in network.modules()] == modes
    assert {layer.momentum for layer in norms(network).values()} == {0.1}


def test_a_batch_of_one_image_is_passed_over():
    network, twin = assembled(1), assembled(1)
    images = torch.randn(9, 3, 16, 16)
    recompute_statistics(network, images.split(4))
    recompute_statistics(twin, images[:8].split(4))
    torch.testing.assert_close(network.state_dict(), twin.state_dict(), rtol=0, atol=0)
    with pytest.raises(ValueError, match="no batch of two images"):
        recompute_statistics(network, [images[:1]])


def test_a_network_without_batch_statistics_reads_nothing():
    batches = iter([torch.zeros(2, 4)])
    recompute_statistics(nn.Sequential(nn.LayerNorm(4), nn.BatchNorm1d(4, track_running_stats=False)), batches)
    assert len(list(batches)) == 1
