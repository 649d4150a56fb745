"""Compute is counted by hand here: a multiply-add is two operations."""

import numpy as np
import pytest
import torch
from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.open import BackboneSpec, open_backbone
from forktail.losses.balanced_bce import BalancedBCE
from forktail.losses.cross_entropy import CrossEntropy
from forktail.training.cost import inference_flops, training_cost, training_memory
from forktail.training.objective import Batch, Objective, Supervised, freeze
from forktail.training.plan import Plan

SHAPE = (3, 4, 4)


def supervised(*layers):
    return Supervised(nn.Sequential(nn.Flatten(), *layers), CrossEntropy())


class Attention(nn.Module):
    """One head without projections over T tokens of D features."""

    def forward(self, inputs):
        tokens = inputs.flatten(2)  # (B, 3 tokens, 16 features)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).flatten(1)


def test_a_linear_map_costs_two_operations_per_weight_and_its_gradients_twice_that():
    """48 -> 5 -> 2. Backward: gradients of both weights, and of the input of the second map alone."""
    forward = 2 * (48 * 5 + 5 * 2)
    objective = supervised(nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2))
    assert inference_flops(objective.network, SHAPE) == forward
    assert training_cost(objective, SHAPE, 2).flops == 2 * forward + 2 * 5 * 2


def test_a_convolution_costs_its_kernel_at_every_place():
    """3 -> 4 channels, 3 x 3 kernel, 4 x 4 places."""
    network = nn.Conv2d(3, 4, 3, padding=1)
    assert inference_flops(network, SHAPE) == 2 * 3 * 4 * 9 * 16


def test_attention_costs_its_two_matrix_products():
    """T = 3 tokens, D = 16: the scores take T x T x D multiply-adds, their use as many."""
    assert inference_flops(Attention(), SHAPE) == 2 * (2 * 3 * 3 * 16)


def test_attention_counts_in_training_as_well():
    """Backward through two products: two more for each."""
    with_attention = supervised(nn.Linear(48, 48), nn.Unflatten(1, (3, 4, 4)), Attention(), nn.Linear(48, 2))
    without = supervised(nn.Linear(48, 48), nn.Linear(48, 2))
    products = 2 * (2 * 3 * 3 * 16)
    flops = [training_cost(objective, SHAPE, 2).flops for objective in (with_attention, without)]
    assert flops[0] - flops[1] == 3 * products


def test_a_frozen_first_part_costs_its_forward_pass_alone():
    objective = supervised(nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2))
    freeze(objective.network[1])
    forward = inference_flops(objective.network, SHAPE)
    assert training_cost(objective, SHAPE, 2).flops == forward + 2 * 5 * 2  # and the gradient of the last weights


def test_a_deeper_frozen_encoder_makes_refinement_cheaper():
    backbone = open_backbone(BackboneSpec("tiny", weights="random"))
    costs = []
    for depth in (0, 3, 6):
        network = Forked.single(backbone, 4)
        for index in range(depth + 1 if depth else 0):
            freeze(network.layer(0, index))
        costs.append(training_cost(Supervised(network, BalancedBCE([4, 3, 2, 1])), (3, 28, 28), 4).flops)
    assert costs[0] > costs[1] > costs[2] > inference_flops(Forked.single(backbone, 4), (3, 28, 28))


def test_twice_the_images_cost_the_same_per_image_also_with_an_objective_that_compares_them():
    class Comparing(Objective):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(48, 5, bias=False)

        def forward(self, batch: Batch):
            features = self.map(batch.inputs.flatten(1))
            return (features @ features.T).sum(1)

    # two images: 2 * 2 * 2 * 5 for the products, as much again for each of both factors; the map forward and backward
    assert training_cost(Comparing(), SHAPE, 2).flops == (3 * 40 + 2 * 2 * (2 * 48 * 5)) // 2


def test_nothing_is_computed_and_nothing_is_touched():
    objective = supervised(nn.Linear(48, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 2)).eval()
    state = {name: value.clone() for name, value in objective.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    np_state = np.random.get_state()[1].copy()  # noqa: NPY002
    training_cost(objective, SHAPE, 2)
    inference_flops(objective.network, SHAPE)
    torch.testing.assert_close(torch.rand(2), expected, rtol=0, atol=0)
    np.testing.assert_array_equal(np.random.get_state()[1], np_state)  # noqa: NPY002
    for name, value in objective.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    assert not objective.training
    assert all(parameter.grad is None for parameter in objective.parameters())
    assert {value.device.type for value in objective.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_cost_does_not_depend_on_the_mode_at_entry(mode):
    objective = supervised(nn.Linear(48, 5), nn.Dropout(0.5), nn.Linear(5, 2))
    getattr(objective, mode)()
    assert training_cost(objective, SHAPE, 2).flops == 2 * (2 * (48 * 5 + 5 * 2)) + 2 * 5 * 2


def test_activations_are_what_the_backward_pass_needs():
    """48 -> 5 -> ReLU -> 2, in floats: the maps keep their inputs (48 and 5, which is the ReLU's result as well), the
    cross-entropy its log-probabilities (2) and, to multiply them, the targets (2)."""
    objective = supervised(nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2))
    assert training_cost(objective, SHAPE, 2).activations == 4 * (48 + 5 + 2 + 2)


def test_what_is_frozen_keeps_no_activations():
    objective = supervised(nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2))
    freeze(objective.network[1])
    assert training_cost(objective, SHAPE, 2).activations == 4 * (5 + 2 + 2)


def test_memory_is_weights_gradients_optimiser_and_activations():
    """252 weights + 1 buffer-free loss; AdamW keeps two more tensors of each, momentum one."""
    objective = supervised(nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 2))
    weights, cost = 4 * (48 * 5 + 5 + 5 * 2 + 2), training_cost(objective, SHAPE, 2)
    assert training_memory(objective, Plan(), 10, cost) == 4 * weights + 10 * cost.activations
    assert training_memory(objective, Plan(optimizer="sgd"), 10, cost) == 3 * weights + 10 * cost.activations
    freeze(objective.network)
    assert training_memory(objective, Plan(), 0, cost) == weights


def test_another_structure_is_counted_anew():
    costs = {training_cost(supervised(nn.Linear(48, width), nn.Linear(width, 2)), SHAPE, 2).flops for width in (5, 6)}
    assert len(costs) == 2
    frozen = supervised(nn.Linear(48, 5), nn.Linear(5, 2))
    before = training_cost(frozen, SHAPE, 2)
    freeze(frozen.network[1])
    assert training_cost(frozen, SHAPE, 2).flops < before.flops
