import copy

import pytest
import torch
from torch import nn

from forktail.losses.cross_entropy import CrossEntropy
from forktail.training.objective import Batch, Objective, Supervised, freeze, set_modes


def network():
    return nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
        nn.Linear(4, 2),
    )  # fmt: skip


def batch(inputs, targets):
    return Batch(inputs, targets, torch.arange(len(inputs)), 0.0, torch.Generator())


def test_supervised_is_the_loss_of_the_networks_outputs():
    inputs, targets = torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    model = network().eval()
    found = Supervised(model, CrossEntropy())(batch(inputs, targets))
    torch.testing.assert_close(found, nn.functional.cross_entropy(model(inputs), targets, reduction="none"))


def test_an_objective_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Objective()


def test_without_a_freeze_everything_trains():
    model = Supervised(network().eval(), CrossEntropy())
    set_modes(model)
    assert all(child.training for child in model.modules())


def test_a_frozen_part_gets_no_gradient_drops_nothing_and_keeps_its_statistics():
    model = network()
    freeze(model)
    set_modes(model)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(child.training for child in model.modules())
    before = copy.deepcopy(model.state_dict())
    inputs = torch.randn(6, 3)
    torch.testing.assert_close(model(inputs), model(inputs), rtol=0, atol=0)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_tracking_lets_batch_statistics_follow_and_nothing_else():
    model = network()
    freeze(model, norm="track")
    set_modes(model)
    assert [type(child) for child in model.modules() if child.training] == [nn.BatchNorm1d]
    before = model[1].running_mean.clone()
    model(torch.randn(6, 3))
    assert not torch.equal(model[1].running_mean, before)
    assert not model[1].weight.requires_grad


def test_the_rest_goes_on_training_round_a_frozen_part():
    model = network()
    freeze(model[3])
    set_modes(model)
    assert [child.training for child in model] == [True, True, True, False, True]
    assert [parameter.requires_grad for parameter in model[4].parameters()] == [True, True]


def test_a_freeze_travels_with_a_copy():
    model = network()
    freeze(model[3])
    twin = copy.deepcopy(model)
    set_modes(twin)
    assert not twin[3].training
    assert not twin[3][0].weight.requires_grad


def test_a_later_call_to_train_is_undone():
    model = network()
    freeze(model)
    model.train()
    set_modes(model)
    assert not model[2].training
