"""Gradient sums against the loop, and the ways in which they could silently be wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from forktail.backbones.forked import Forked
from forktail.backbones.layered import Layered
from forktail.errors import InputError
from forktail.fisher.per_image import gradient_sums, gradient_sums_by_group
from forktail.fisher.reference import per_image_gradients, reference_sums
from forktail.labels import TaskSplit
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy

FIELDS = ("first", "products", "weighted")


def assert_sums_equal(found, expected, relative):
    """Compare every entry, relative to the largest of its unit and task."""
    for kind in ("units", "decoders"):
        pairs = list(zip(getattr(found, kind), getattr(expected, kind), strict=True))
        for index, (mine, theirs) in enumerate(pairs):
            assert mine.images == theirs.images
            assert mine.weight == pytest.approx(theirs.weight, rel=1e-12)
            for field in FIELDS:
                values, wanted = getattr(mine, field), getattr(theirs, field)
                assert values.dtype == torch.float64
                scale = wanted.abs().amax(-1, keepdim=True)
                torch.testing.assert_close(
                    values / scale, wanted / scale, rtol=0, atol=relative,
                    msg=lambda text, at=f"{kind}[{index}].{field}": f"{at}: {text}",
                )  # fmt: skip


def sums(problem, *sizes, chunk_size=16, weighted=True):
    batches = problem.batches(*sizes, weighted=weighted)
    return gradient_sums(problem.networks, problem.losses, problem.split, batches, chunk_size)


def loop(problem, *sizes):
    return reference_sums(problem.networks, problem.losses, problem.split, problem.batches(*sizes))


def test_single_precision_agrees_with_the_loop(problem):
    assert_sums_equal(sums(problem, 7), loop(problem, 7), 1e-5)


def test_double_precision_agrees_with_the_loop(problem):
    problem = problem.double()
    assert_sums_equal(sums(problem, 7), loop(problem, 7), 1e-10)


@pytest.mark.parametrize("sizes", [(1,) * 7, (3, 3, 1), (5, 2)], ids=["one by one", "ragged", "two"])
def test_batch_size_does_not_matter(problem, sizes):
    assert_sums_equal(sums(problem, *sizes), sums(problem, 7), 1e-6)


@pytest.mark.parametrize("chunk_size", [1, 2, 7])
def test_chunk_size_does_not_matter(problem, chunk_size):
    assert_sums_equal(sums(problem, 7, chunk_size=chunk_size), sums(problem, 7), 1e-6)


def test_parts_of_the_data_merge(problem):
    first, second = (
        gradient_sums(problem.networks, problem.losses, problem.split, [batch]) for batch in problem.batches(3, 4)
    )
    assert_sums_equal(first.merge(second), sums(problem, 7), 1e-6)


def test_every_parameter_has_a_value(problem):
    total = sums(problem, 7)
    for task, network in enumerate(problem.networks):
        num_units = sum(unit.first.shape[1] for unit in total.units)
        assert num_units + total.decoders[task].first.shape[1] == sum(p.numel() for p in network.parameters())


def test_no_weights_are_weights_of_one(problem):
    batches = [(images, targets, None) for images, targets, _ in problem.batches(7)]
    without = gradient_sums(problem.networks, problem.losses, problem.split, batches)
    assert_sums_equal(without, sums(problem, 7, weighted=False), 0)
    for unit in without.units:
        torch.testing.assert_close(unit.weighted, torch.stack([unit.products[0, 0], unit.products[1, 1]]))


def test_products_are_symmetric_in_the_tasks(problem):
    for unit in sums(problem, 7).units:
        torch.testing.assert_close(unit.products, unit.products.transpose(0, 1), rtol=0, atol=0)


def test_swapping_the_tasks_swaps_the_sums(problem):
    swapped = problem._replace(
        networks=problem.networks[::-1],
        losses=problem.losses[::-1],
        split=type(problem.split)(problem.split.tasks[::-1]),
    )
    for mine, theirs in zip(sums(problem, 7).units, sums(swapped, 7).units, strict=True):
        torch.testing.assert_close(mine.products, theirs.products.flip(0, 1), rtol=0, atol=0)
        torch.testing.assert_close(mine.weighted, theirs.weighted.flip(0), rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_comes_back(problem, training):
    for network in problem.networks:
        network.train(training)
        network.layer(0, 1).train(not training)
    buffers = {name: value.clone() for name, value in problem.networks[0].named_buffers()}
    assert_sums_equal(sums(problem, 7), sums(problem, 7), 0)
    assert all(network.training == training for network in problem.networks)
    assert all(network.layer(0, 1).training != training for network in problem.networks)
    torch.testing.assert_close(dict(problem.networks[0].named_buffers()), buffers, rtol=0, atol=0)


def test_the_mode_comes_back_after_an_error(problem):
    with pytest.raises(ZeroDivisionError):
        gradient_sums(problem.networks, problem.losses, problem.split, (1 / 0 for _ in range(1)))
    assert all(network.training for network in problem.networks)


def test_parameters_are_left_alone_also_without_autograd(problem):
    before = [{name: p.clone() for name, p in network.named_parameters()} for network in problem.networks]
    with torch.no_grad():
        total = sums(problem, 7)
    assert_sums_equal(total, sums(problem, 7), 0)
    for network, old in zip(problem.networks, before, strict=True):
        torch.testing.assert_close(dict(network.named_parameters()), old, rtol=0, atol=0)
        assert all(parameter.grad is None for parameter in network.parameters())


def test_a_frozen_parameter_is_an_error_that_names_it(problem):
    name = list(dict(problem.networks[1].named_parameters()))[3]
    problem.networks[1].get_parameter(name).requires_grad_(False)
    with pytest.raises(InputError, match=f"{name} is frozen"):
        sums(problem, 7)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, hidden):
        return self.used(hidden)


def linear(num_classes=2, unit=None, width=4):
    backbone = Layered(nn.Linear(3, width), [unit or nn.Linear(width, width)], nn.LayerNorm(width), num_features=width)
    return Forked.single(backbone, num_classes)


def small_batch():
    return [(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.eye(4), None)]


def small_sums(networks, batches=None):
    split = TaskSplit((np.array([0, 1]), np.array([2, 3])))
    return gradient_sums(networks, [BinaryCrossEntropy()] * 2, split, small_batch() if batches is None else batches)


def test_an_unused_parameter_is_an_error_that_names_it():
    with pytest.raises(InputError, match=r"shared\.1\.unused\.weight gets no gradient"):
        small_sums([linear(unit=Unused()), linear(unit=Unused())])


def test_a_parameter_of_two_layers_is_an_error_that_names_it():
    network = linear()
    network.layer(0, 2).bias = network.layer(0, 1).bias
    with pytest.raises(InputError, match=r"shared\.1\.bias stands in 2 layers"):
        small_sums([network, network])


def test_networks_that_differ_are_refused():
    with pytest.raises(InputError, match="different backbones"):
        small_sums([linear(), linear(width=5)])


def test_a_network_of_two_tasks_is_refused(problem):
    both = Forked(problem.networks[0].path(0), problem.split, 1)
    with pytest.raises(InputError, match="a network of 2 tasks"):
        gradient_sums([both, both], problem.losses, problem.split, problem.batches(7))


def test_no_images_are_refused():
    with pytest.raises(InputError, match="no images"):
        small_sums([linear(), linear()], batches=[])


def test_gradient_of_a_linear_map_by_hand():
    """BCE of one logit: the gradient is (sigmoid(w x) - t) x, and half of minus or plus x at w = 0."""
    network = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(network.weight)
    images = torch.tensor([[1.0, 2.0, 0.0], [0.0, -4.0, 6.0]])
    gradients = per_image_gradients(network, BinaryCrossEntropy(), images, torch.tensor([[1.0], [0.0]]))
    torch.testing.assert_close(gradients["weight"], torch.tensor([[[-0.5, -1.0, 0.0]], [[0.0, -2.0, 3.0]]]))


def test_mixed_targets_are_refused():
    inputs, targets, _ = small_batch()[0]
    with pytest.raises(InputError, match="targets between 0 and 1"):
        small_sums([linear(), linear()], batches=[(inputs, 0.5 * targets, None)])


@pytest.mark.parametrize("sizes", [(7,), (1, 6)])
def test_groups_are_every_so_many_images(problem, sizes):
    """The sums of each group are those of its images alone; together they are the sums of all."""
    parts = problem.batches(*sizes)
    found = gradient_sums_by_group(problem.networks, problem.losses, problem.split, parts, groups=3)
    for group, mine in enumerate(found):
        images = slice(group, None, 3)
        own = [(problem.images[images], problem.targets[images], problem.weights[images])]
        expected = gradient_sums(problem.networks, problem.losses, problem.split, own)
        assert_sums_equal(mine, expected, 1e-5)
    assert_sums_equal(found[0].merge(found[1]).merge(found[2]), sums(problem, 7), 1e-5)


def test_too_few_images_for_the_groups_are_refused():
    split = TaskSplit((np.array([0, 1]), np.array([2, 3])))
    with pytest.raises(InputError, match="4 images in 5 groups"):
        gradient_sums_by_group([linear(), linear()], [BinaryCrossEntropy()] * 2, split, small_batch(), groups=5)
