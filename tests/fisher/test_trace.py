"""What two runs tell about a network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forktail.errors import InputError
from forktail.fisher.trace import trace


def calls_of(network, inputs, **settings):
    names = {id(p): name for name, p in network.named_parameters()}
    return {call.name: call for call in trace(network.eval(), inputs, names, **settings)}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.gain = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.ones(4))
        self.position = nn.Parameter(torch.zeros(3, 4))
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        hidden = self.first(x) + self.norm(self.position)
        return torch.cat([hidden, self.second(hidden.relu_()) * self.gain], dim=1)


def test_who_accounts_for_what():
    calls = calls_of(Block(), torch.randn(2, 3, 4))
    assert calls["first"].wanted == ["first.bias", "first.weight"]
    assert calls["first"].rule is not None
    assert calls[""].wanted == ["gain", "norm.bias", "norm.weight", "position"]
    assert calls[""].is_generic
    assert [call.name for call in calls[""].inside] == ["first", "norm", "second"]
    assert calls["norm"].is_transparent
    assert [calls[name].stands_in for name in ("first", "norm", "second")] == [True, False, True]


def test_which_dimension_counts_images():
    calls = calls_of(nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 4), nn.Unflatten(0, (-1, 3))), torch.randn(2, 3, 4))
    (leaf,) = calls["1"].inputs
    assert leaf.dim == 0
    rows = torch.arange(24.0).view(6, 4)
    torch.testing.assert_close(leaf.by_image(rows, 2), rows.view(2, 3, 4))


def test_what_is_written_into():
    calls = calls_of(nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4)), torch.randn(2, 4))
    assert [calls[name].outputs[0].overwritten for name in "012"] == [True, False, False]


def test_formulas_can_be_left_aside():
    calls = calls_of(nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 4), rules=False)
    assert calls["0"].rule is None
    assert calls["0"].is_generic


def test_a_parameter_that_is_only_asked_for_its_type_is_not_used():
    class Casting(nn.Linear):
        def forward(self, x):
            return super().forward(x.to(self.weight.dtype))

    calls = calls_of(nn.Sequential(Casting(4, 4), _TypeOfFirst()), torch.randn(2, 4))
    assert calls["1"].uses == set()


class _TypeOfFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x.to(self.unused.dtype) + self.unused.detach()


class Squeezed(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x):
        return self.map(x.squeeze())


class Unlike(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x):
        return self.map(x) if len(x) == 1 else self.map(self.map(x))


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, x):
        return self.map(x.mean(0))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Squeezed(), "drops a dimension for a single image"),
        (Unlike(), "other calls for two images"),
        (Pooled(), "map.bias acts on all images together"),
    ],
)
def test_networks_without_images_of_their_own_are_refused(network, message):
    with pytest.raises(InputError, match=message):
        calls_of(network, torch.randn(2, 4))
