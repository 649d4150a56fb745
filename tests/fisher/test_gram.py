"""Inner products of per-image gradients of real networks, against backpropagation of one image after the other."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.fisher import gram
from forktail.fisher.gram import grams, spread_over_classes
from forktail.theory.gram import UnitGram

LABELS = [0, 0, 1, 2, 3, 4, 0]  # of the problem's images


def batches_of(problem, size=2):
    """Batches of the asked images; keeps what was asked for."""

    def batches(index):
        batches.asked.append(index.tolist())
        for part in np.array_split(index, -(-len(index) // size)):
            yield problem.images[part], problem.targets[part], None

    batches.asked = []
    return batches


def compute(problem, **options):
    arguments = (problem.networks, problem.losses, problem.split, problem.starts)
    return grams(*arguments, options.pop("batches", batches_of(problem)), LABELS, **({"chunk_size": 2} | options))


def layers_of(network):
    """Parameters of the stem, the units, and the decoder."""
    top = network.max_depth + 1
    modules = [*([network.layer(0, layer)] for layer in range(top)), [network.layer(0, top), network.classifier(0)]]
    return [[p for module in layer for p in module.parameters()] for layer in modules]


def flat(tensors):
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors]).numpy()


def by_loop(problem, images):
    """The definition, written out in float64: units of both tasks, then each task's decoder."""
    gradients, positions = [], []
    for network, start, loss, task in zip(
        problem.networks, problem.starts, problem.losses, problem.split.tasks, strict=True
    ):
        network, loss = copy.deepcopy(network).double().eval(), copy.deepcopy(loss).double()
        layers = layers_of(network)
        each = []
        for image in images:
            inputs, target = problem.images[image : image + 1].double(), problem.targets[image : image + 1].double()
            value = loss(network(inputs), target[:, task.tolist()])[0]
            found = iter(torch.autograd.grad(value, [p for layer in layers for p in layer]))
            each.append([flat([next(found) for _ in layer]) for layer in layers])
        gradients.append([np.stack(layer) for layer in zip(*each, strict=True)])
        positions.append([flat(end) - flat(begin) for end, begin in zip(layers, layers_of(start), strict=True)])
    units = [
        UnitGram.of([g[layer] for g in gradients], [u[layer] for u in positions])
        for layer in range(len(gradients[0]) - 1)
    ]
    own = [UnitGram.of(rows[-1][None], moved[-1][None]) for rows, moved in zip(gradients, positions, strict=True)]
    return [*units, *own]


def assert_same(found, expected, relative=1e-6):
    """Compare inner products relative to the largest of their unit."""
    for name in ("gradients", "moves", "positions"):
        values = getattr(expected, name)
        assert getattr(found, name).shape == values.shape
        scale = np.abs(values).max()
        np.testing.assert_allclose(getattr(found, name) / scale, values / scale, rtol=0, atol=relative)


@pytest.mark.parametrize("double", [False, True])
def test_every_unit_and_decoder_against_the_loop(problem, double):
    """In float32, what is off is the rounding of the network's own arithmetic."""
    problem = problem.double() if double else problem
    found = compute(problem)
    assert (len(found.units), len(found.decoders)) == (problem.networks[0].max_depth + 1, 2)
    assert found.images.tolist() == list(range(7))
    for one, other in zip([*found.units, *found.decoders], by_loop(problem, range(7)), strict=True):
        assert_same(one, other, 1e-10 if double else 1e-5)


SMALL = pytest.mark.parametrize("problem", ["convolutional", "transformer"], indirect=True)


@SMALL
@pytest.mark.parametrize(("held", "chunk_size"), [(1, 2), (1, 3), (1, 100), (10**9, 2)])
def test_neither_blocks_nor_chunks_change_the_result(problem, held, chunk_size, monkeypatch):
    problem = problem.double()
    expected = compute(problem)
    monkeypatch.setattr(gram, "HELD", held)
    found = compute(problem, chunk_size=chunk_size)
    for one, other in zip([*found.units, *found.decoders], [*expected.units, *expected.decoders], strict=True):
        assert_same(one, other, relative=1e-12)


@SMALL
def test_blocks_are_held_while_later_images_pass_by(problem, monkeypatch):
    entries = sum(p.numel() for network in problem.networks for p in network.parameters())
    for held, expected in (
        (5 * entries, [[0, 1, 2, 3, 4], [5, 6], [5, 6]]),
        (1, [part for i in range(7) for part in ([i], list(range(i + 1, 7))) if part]),
    ):
        monkeypatch.setattr(gram, "HELD", held)
        batches = batches_of(problem)
        compute(problem, batches=batches)
        assert batches.asked == expected


@SMALL
@pytest.mark.parametrize("layers", [0, 1])
def test_the_last_layers_alone(problem, layers):
    problem = problem.double()
    found, whole = compute(problem, layers=layers), compute(problem)
    assert len(found.units) == layers
    for one, other in zip(
        [*found.units, *found.decoders], [*whole.units[-layers:][:layers], *whole.decoders], strict=True
    ):
        assert_same(one, other)


@SMALL
def test_all_units_bring_the_stem(problem):
    depth = problem.networks[0].max_depth
    assert len(compute(problem, layers=depth).units) == depth + 1


@SMALL
def test_some_images_are_named(problem):
    problem = problem.double()
    found = compute(problem, images=4, seed=1)
    assert found.images.tolist() == spread_over_classes(LABELS, 4, seed=1).tolist()
    assert_same(found.units[1], by_loop(problem, found.images.tolist())[1])


@SMALL
def test_work_beyond_the_limits_takes_fewer_images(problem, monkeypatch):
    coordinates = sum(p.numel() for network in problem.networks for p in network.parameters()) / 2
    monkeypatch.setattr(gram, "MOST", 6)
    assert len(compute(problem).images) == 6
    monkeypatch.setattr(gram, "WORK", 4 * 5.5**2 * coordinates)
    assert len(compute(problem).images) == 5
    assert len(compute(problem, images=7).images) == 7
    monkeypatch.setattr(gram, "WORK", 1.0)
    with pytest.raises(InputError, match="take the last layers alone"):
        compute(problem)


def test_a_sample_gives_every_class_its_share():
    labels = np.repeat([2, 0, 1], [500, 90, 10])
    drawn = [spread_over_classes(labels, 60, seed) for seed in range(200)]
    for index in drawn:
        assert len(np.unique(index)) == 60
        assert Counter(labels[index].tolist()) == {2: 50, 0: 9, 1: 1}
    often = np.bincount(np.concatenate(drawn), minlength=600)
    assert abs(often[labels == 1].mean() / 20 - 1) < 0.2
    assert (often[labels == 1] > 0).all()
    np.testing.assert_array_equal(spread_over_classes(labels, 600, 0), np.arange(600))
    np.testing.assert_array_equal(spread_over_classes(labels, 60, 3), drawn[3])


@SMALL
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 8}, "images = 8; expected 1 to 7"),
        ({"images": 0}, "images = 0"),
        ({"layers": -1}, "layers = -1"),
        ({"layers": 99}, "layers = 99; expected 0 to"),
    ],
)
def test_what_cannot_be_taken_is_refused(problem, options, message):
    with pytest.raises(InputError, match=message):
        compute(problem, **options)


@SMALL
def test_images_with_weights_or_mixed_or_missing_are_refused(problem):
    images, targets = problem.images, problem.targets
    for batches, message in (
        (lambda index: [(images[index], targets[index], torch.ones(len(index)))], "weights of images"),
        (lambda index: [(images[index], 0.5 * targets[index], None)], "between 0 and 1"),
        (lambda index: [(images[index[1:]], targets[index[1:]], None)], "batches of 6 images; expected the 7"),
    ):
        with pytest.raises(InputError, match=message):
            compute(problem, batches=batches)


@SMALL
def test_a_parameter_without_gradient_is_named(problem):
    for network in problem.networks:
        network.layer(0, 1).unused = torch.nn.Parameter(torch.zeros(3))
    for start in problem.starts:
        start.layer(0, 1).unused = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(InputError, match="unused gets no gradient"):
        compute(problem)


@SMALL
def test_other_starts_are_refused(problem):
    problem.starts[0].classifier(0).weight = torch.nn.Parameter(torch.zeros(1, 1))
    with pytest.raises(InputError, match="starts that differ in shape"):
        compute(problem)


@SMALL
def test_networks_are_left_in_their_mode(problem):
    compute(problem)
    assert all(network.training and all(p.requires_grad for p in network.parameters()) for network in problem.networks)
