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


def assert_sums_equal(found, expected, relative):
    """Compare every entry, relative to the largest of its unit and task."""
    for kind in ("units", "decoders"):
        pairs = list(zip(getattr(found, kind), getattr(expected, kind), strict=True))
        for index, (mine, theirs) in enumerate(pairs):
            assert mine.images == theirs.images
            assert mine.weight == pytest.approx(theirs.weight, rel=1e-12)
            assert mine.tensors().keys() == theirs.tensors().keys()
            for field, values in mine.tensors().items():
                wanted = theirs.tensors()[field]
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
    for mine, ones in zip(without.units, sums(problem, 7, weighted=False).units, strict=True):
        assert mine.weight == ones.weight == 7
        assert mine.weighted is None
        torch.testing.assert_close(mine.products, ones.products, rtol=0, atol=0)
        torch.testing.assert_close(ones.weighted, torch.stack([mine.products[0, 0], mine.products[1, 1]]))


@pytest.mark.parametrize("problem", ["convolutional"], indirect=True)
def test_weights_for_some_images_only_are_refused(problem):
    (images, targets, weights), (others, other_targets, _) = problem.batches(3, 4)
    batches = [(images, targets, weights), (others, other_targets, None)]
    with pytest.raises(InputError, match="batches with weights and batches without"):
        gradient_sums(problem.networks, problem.losses, problem.split, batches)


@pytest.mark.parametrize("problem", ["convolutional"], indirect=True)
def test_sums_of_different_kinds_do_not_merge(problem):
    batches = [(images, targets, None) for images, targets, _ in problem.batches(7)]
    without = gradient_sums(problem.networks, problem.losses, problem.split, batches)
    with pytest.raises(ValueError, match="expected sums of the same kind"):
        without.merge(sums(problem, 7))


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


@pytest.mark.parametrize("problem", ["convolutional"], indirect=True)
@pytest.mark.parametrize("kind", ["empirical", "ggn"])
def test_groups_are_summed_apart_and_merge(problem, kind):
    batches = problem.batches(3, 1, 3)
    groups = [batches[:2], batches[2:]]
    found = list(gradient_sums_by_group(problem.networks, problem.losses, problem.split, groups, kind=kind))
    for mine, own in zip(found, groups, strict=True):
        assert_sums_equal(mine, gradient_sums(problem.networks, problem.losses, problem.split, own, kind=kind), 1e-5)
    whole = gradient_sums(problem.networks, problem.losses, problem.split, batches, kind=kind)
    assert_sums_equal(found[0].merge(found[1]), whole, 1e-12)


@pytest.mark.parametrize("problem", ["convolutional"], indirect=True)
def test_an_empty_group_is_refused(problem):
    groups = [problem.batches(7), []]
    with pytest.raises(InputError, match=r"no images .*in every group"):
        list(gradient_sums_by_group(problem.networks, problem.losses, problem.split, groups))


@pytest.mark.parametrize("problem", ["convolutional"], indirect=True)
def test_networks_are_in_their_mode_between_groups(problem):
    groups = [[one] for one in problem.batches(3, 4)]
    for _ in gradient_sums_by_group(problem.networks, problem.losses, problem.split, groups):
        assert all(network.training for network in problem.networks)


def curvature_by_loop(problem, kind, seed):
    """(sums without weights, with weights) per task and layer, image by image and output by output, in float64."""
    found = []
    for task, network in enumerate(problem.networks):
        network.eval()
        adjustment = problem.losses[task].double().adjustment
        uniform = torch.Generator().manual_seed(seed + task)
        labels = torch.rand(7, 1, len(adjustment), generator=uniform, dtype=torch.float64)[:, 0]
        layers = [[network.layer(0, k)] for k in range(network.max_depth + 1)]
        layers.append([network.layer(0, network.max_depth + 1), network.classifier(0)])
        flat = [[p for module in layer for p in module.parameters()] for layer in layers]
        for layer in flat:
            plain, weighted = 0.0, 0.0
            for i in range(7):
                logits = network(problem.images[i : i + 1])[0]
                p = torch.sigmoid(logits + adjustment).detach()
                J = [torch.autograd.grad(one, layer, retain_graph=True) for one in logits]
                J = torch.stack([torch.cat([g.flatten() for g in one]) for one in J])
                if kind == "ggn":
                    each = ((p * (1 - p))[:, None] * J**2).sum(0)
                else:
                    each = (((p - (labels[i] < p).double())[:, None] * J).sum(0)) ** 2
                plain, weighted = plain + each, weighted + problem.weights[i].double() * each
            found.append((plain, weighted))
    per_task = len(found) // len(problem.networks)
    return [found[:per_task], found[per_task:]]


@pytest.mark.parametrize("problem", ["convolutional", "transformer"], indirect=True)
@pytest.mark.parametrize("kind", ["monte_carlo", "ggn"])
@pytest.mark.parametrize("sizes", [(7,), (3, 4)])
def test_a_curvature_of_its_own_agrees_with_the_loop(problem, kind, sizes):
    problem = problem.double()
    batches = problem.batches(*sizes)
    found = gradient_sums(problem.networks, problem.losses, problem.split, batches, kind=kind, seed=11)
    expected = curvature_by_loop(problem, kind, seed=11)
    for task in (0, 1):
        mine = [(unit.curvature[task], unit.weighted[task]) for unit in found.units]
        mine.append((found.decoders[task].curvature[0], found.decoders[task].weighted[0]))
        for layer, wanted in zip(mine, expected[task], strict=True):
            for values, right in zip(layer, wanted, strict=True):
                torch.testing.assert_close(values, right, rtol=1e-9, atol=1e-12 * float(right.max()))
    scores = gradient_sums(problem.networks, problem.losses, problem.split, batches)
    for unit, other in zip(found.units, scores.units, strict=True):
        torch.testing.assert_close(unit.products, other.products, rtol=0, atol=0)
