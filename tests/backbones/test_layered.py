from __future__ import annotations

import torch
from torch import nn

from forktail.backbones.layered import Layered


class Hidden(nn.Module):
    """A unit of a text encoder: hidden state and mask travel together."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, travelling):
        hidden, mask = travelling
        return hidden * self.factor, mask


class Stem(nn.Module):
    def forward(self, tokens):
        return tokens.float(), tokens > 0


class MaskedMean(nn.Module):
    def forward(self, travelling):
        hidden, mask = travelling
        return (hidden * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)


def test_what_the_stem_returns_travels():
    chain = Layered(Stem(), [Hidden(2.0), Hidden(3.0)], MaskedMean(), num_features=1)
    torch.testing.assert_close(chain(torch.tensor([[1, 2, 0, 0]])), torch.tensor([[9.0]]))


def test_unit_of_goes_by_structure():
    part = nn.Linear(2, 2)
    chain = Layered(nn.Sequential(part), [nn.Linear(2, 2) for _ in range(11)], nn.LayerNorm(2), num_features=2)
    units = {name: chain.unit_of(name) for name, _ in chain.named_parameters()}
    assert units["stem.0.weight"] == 0
    assert units["units.0.weight"] == 1
    assert units["units.10.bias"] == 11
    assert units["readout.bias"] == 12
