import copy
import dataclasses

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import BackboneSpec, open_backbone
from forktail.losses.cross_entropy import CrossEntropy
from forktail.training.objective import (
    Batch,
    Deferred,
    Objective,
    Supervised,
    freeze,
    set_modes,
    weighted_mean,
)


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


def residual():
    """A residual network with stochastic depth."""
    backbone = open_backbone(BackboneSpec("resnet8", weights="random", drop_path=0.5), seed=1)
    return Supervised(Forked.single(backbone, 3), CrossEntropy())


def take_steps(objective, steps=3):
    """Train as the engine does: modes first, then the losses."""
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.1)
    for _ in range(steps):
        set_modes(objective)
        losses = objective(batch(torch.randn(6, 3, 16, 16) + 1, torch.tensor([0, 1, 2, 0, 1, 2])))
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()


def changed(before, module):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_a_frozen_encoder_of_a_resnet_is_bit_equal_after_training_steps():
    objective = residual()
    encoder = nn.ModuleList([objective.network.layer(0, index) for index in range(3)])
    freeze(encoder, norm="eval")
    before = copy.deepcopy(objective.state_dict())
    frozen = copy.deepcopy(encoder.state_dict())
    take_steps(objective)
    assert changed(frozen, encoder) == set()
    assert any(name.endswith("running_var") for name in changed(before, objective))  # of the decoder
    assert "network.branches.0.classifier.weight" in changed(before, objective)


def test_a_tracking_encoder_of_a_resnet_moves_its_statistics_and_no_parameter():
    objective = residual()
    encoder = nn.ModuleList([objective.network.layer(0, index) for index in range(3)])
    freeze(encoder, norm="track")
    frozen = copy.deepcopy(encoder.state_dict())
    take_steps(objective)
    statistics = {name for name, _ in encoder.named_buffers()}
    assert changed(frozen, encoder) == statistics
    assert len(statistics) == 3 * 5  # mean, variance and count of the stem's norm and of two blocks'
    drops = [child for child in encoder.modules() if isinstance(child, DropPath)]
    assert len(drops) == 2
    assert not any(drop.training for drop in drops)


class Weighing:
    """A squared error with class weights, simple enough to check by hand."""

    class_weights = torch.tensor([1.0, 3.0, 8.0])

    def image_weights(self, targets):
        return self.class_weights[targets]

    def __call__(self, logits, targets):
        return self.image_weights(targets) * logits.square().sum(1)


def test_a_deferred_loss_takes_over_at_its_share_of_the_stage():
    network = nn.Linear(2, 3)
    objective = Deferred(network, early=lambda z, t: z.sum(1), late=Weighing(), start=0.8)
    given = batch(torch.randn(4, 2), torch.tensor([0, 1, 2, 2]))
    outputs = network(given.inputs)
    torch.testing.assert_close(objective(dataclasses.replace(given, progress=0.79)), outputs.sum(1))
    w, losses = [1.0, 3.0, 8.0, 8.0], outputs.square().sum(1).tolist()
    late = objective(dataclasses.replace(given, progress=0.8))
    expected = sum(a * b for a, b in zip(w, losses, strict=True)) / sum(w)
    torch.testing.assert_close(late.mean(), torch.tensor(expected))


def test_equal_weights_make_the_weighted_mean_the_mean():
    given = batch(torch.randn(4, 2), torch.tensor([1, 1, 1, 1]))
    losses = weighted_mean(Weighing(), given.inputs, given.targets)
    torch.testing.assert_close(losses, given.inputs.square().sum(1))


def test_what_is_fixed_stays_so_and_the_rest_is_frozen_as_was_said_last():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
    freeze(network[0], "fixed")
    freeze(network)
    freeze(network, "track")
    set_modes(network)
    assert [layer.training for layer in network] == [False, True]
