import pytest
import torch
from torch import nn

from forktail.backbones.classified import Classified
from forktail.backbones.forked import Forked
from forktail.backbones.layered import Layered


@pytest.fixture
def chain():
    return Layered(nn.Flatten(), [nn.Linear(4, 4), nn.GELU()], nn.LayerNorm(4), num_features=4)


def test_a_network_taken_apart_and_put_together_is_the_same(chain):
    network = Forked.single(chain, 10)
    inputs = torch.randn(3, 2, 2)
    again = Classified(network.path(0), network.classifier(0))
    torch.testing.assert_close(again(inputs), network(inputs), rtol=0, atol=0)
    assert {id(p) for p in again.parameters()} == {id(p) for p in network.parameters()}


def test_both_kinds_of_network_name_the_same_layers(chain):
    network = Forked.single(chain, 10)
    again = Classified(network.path(0), network.classifier(0))
    by_id = {id(p): network.unit_of(name) for name, p in network.named_parameters()}
    assert {id(p): again.unit_of(name) for name, p in again.named_parameters()} == by_id
    assert sorted(by_id.values()) == [1, 1, 3, 3, 3, 3]
