"""The oracle itself, against gradients worked out by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.layered import Layered
from forktail.fisher.reference import reference_sums
from forktail.labels import TaskSplit
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy


class Scale(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(value))

    def forward(self, hidden):
        return self.factor * hidden


def chain(stem, unit):
    network = Forked.single(Layered(Scale(stem), [Scale(unit)], nn.Identity(), num_features=1), 1)
    nn.init.zeros_(network.classifier(0).weight)
    nn.init.ones_(network.classifier(0).bias)
    return network


def test_by_hand():
    """z = w a b x + bias; with w = 0 only the classifier has a gradient: (p - t) a b x and p - t, p = sigmoid(1)."""
    networks = [chain(2.0, 3.0), chain(5.0, 1.0)]
    images, targets = torch.tensor([[1.0], [4.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    split = TaskSplit((np.array([0]), np.array([1])))
    batches = [(images, targets, torch.tensor([1.0, 2.0]))]
    sums = reference_sums(networks, [BinaryCrossEntropy()] * 2, split, batches)
    p = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(sums.units[0].products, 0)
    first = np.array([(p - 1) * 6 + p * 24, (p - 1) + p])
    np.testing.assert_allclose(sums.decoders[0].first[0], first, rtol=1e-12)
    weighted = np.array([(p * 5) ** 2 + 2 * ((p - 1) * 20) ** 2, p**2 + 2 * (p - 1) ** 2])
    np.testing.assert_allclose(sums.decoders[1].weighted[0], weighted, rtol=1e-12)
    assert sums.units[0].weight == 3


def test_cross_products_by_hand():
    """With w = 1, a = b = 1, bias 0: the gradient of a is (sigmoid(x) - t) x in both tasks."""
    networks = [chain(1.0, 1.0), chain(1.0, 1.0)]
    for network in networks:
        nn.init.ones_(network.classifier(0).weight)
        nn.init.zeros_(network.classifier(0).bias)
    split = TaskSplit((np.array([0]), np.array([1])))
    batches = [(torch.tensor([[1.0], [4.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), None)]
    sums = reference_sums(networks, [BinaryCrossEntropy()] * 2, split, batches)
    x, targets = np.array([1.0, 4.0]), np.array([[1.0, 0.0], [0.0, 1.0]])
    gradients = (1 / (1 + np.exp(-x)) - targets) * x
    for unit in sums.units:
        np.testing.assert_allclose(unit.products[:, :, 0], gradients @ gradients.T, rtol=1e-12)


def test_networks_and_losses_keep_their_type():
    network, loss = chain(1.0, 1.0), BinaryCrossEntropy()
    split = TaskSplit((np.array([0]),))
    reference_sums([network], [loss], split, [(torch.ones(1, 1), torch.ones(1, 1), None)])
    assert network.classifier(0).weight.dtype == torch.float32
    assert network.training
