"""How far Stage 2 ends from Stage 1, and how far apart head and tail go in Stage 1."""

import copy
import dataclasses
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from forktail.errors import InputError
from forktail.labels import TaskSplit
from forktail.methods._distances import drift, separation
from forktail.methods.osdtw import OSDTW
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)


@pytest.fixture(scope="module")
def single(problem):
    return problem.network(TaskSplit.single(3))


def moved(network, *, offset=0.0, noise=0.0, seed=0):
    """The network somewhere else: all parameters by the same, and each by its own chance."""
    generator, found = torch.Generator().manual_seed(seed), copy.deepcopy(network)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(offset + noise * torch.randn(parameter.shape, generator=generator))
    return found


@pytest.mark.parametrize(("at", "expected"), [(0.0, 1.0), (1.0, 1.0), (0.5, 0.5), (2.0, 5.0)])
def test_drift_is_half_at_the_midpoint_and_one_at_either_end(problem, single, at, expected):
    """On the line through both solutions, a share ``at`` of the way: at^2 + (1 - at)^2."""
    found = drift(moved(problem.network(problem.split), offset=at), [single, moved(single, offset=1.0)])
    assert found == pytest.approx([expected] * (problem.backbone().depth + 1), rel=1e-5)


def test_drift_is_of_what_is_shared(problem, single):
    """One unit of two, and the specialists have both."""
    found = drift(problem.network(problem.split, 1), [single, moved(single, offset=1.0)])
    assert found == pytest.approx([1.0, 1.0], rel=1e-5)


def test_drift_between_solutions_that_are_the_same_has_no_unit(problem, single):
    assert set(drift(problem.network(problem.split), [single, single])) == {None}


def slowly(trainings):
    """The same in float64 numpy, parameter by parameter."""

    def of(network):
        layers = [network.layer(0, index).parameters() for index in range(network.depth + 1)]
        return [np.concatenate([p.detach().double().numpy().ravel() for p in layer]) for layer in layers]

    def between(first, second, layer):
        pairs = [(i, j) for i, j in product(range(len(trainings)), repeat=2) if i != j]
        return np.mean([((of(first[i])[layer] - of(second[j])[layer]) ** 2).sum() for i, j in pairs])

    heads, tails = ([networks[task] for networks in trainings] for task in range(2))
    layers = range(trainings[0][0].depth + 1)
    apart = np.array([between(heads, tails, layer) for layer in layers])
    chance = np.array([(between(heads, heads, layer) + between(tails, tails, layer)) / 2 for layer in layers])
    return apart.sum() / chance.sum(), apart / chance


@pytest.mark.parametrize("number", [2, 3])
def test_separation_is_that_of_a_loop_over_pairs(single, number):
    trainings = [[moved(single, offset=task, noise=1.0, seed=2 * i + task) for task in range(2)] for i in range(number)]
    found, (whole, layers) = separation(trainings), slowly(trainings)
    assert found.whole == pytest.approx(whole, rel=1e-12)
    assert found.layers == pytest.approx(list(layers), rel=1e-12)
    pairs = [slowly([trainings[i], trainings[j]])[0] for i in range(number) for j in range(i + 1, number)]
    assert found.pairs == pytest.approx(pairs, rel=1e-12)


@pytest.mark.parametrize("delta", [0.0, 1.0, 3.0])
def test_separation_measures_the_distance_in_units_of_the_noise(delta):
    """1 + delta^2 / (V_A + V_B), here with V_A = 1 and V_B = 4, over 400,000 parameters."""
    wide = nn.Linear(400_000, 1, bias=False)

    class Network:
        depth = 0

        def __init__(self, offset, noise, seed):
            self.weights = moved(wide, offset=offset, noise=noise, seed=seed)

        def layer(self, task, index):
            return self.weights

    trainings = [[Network(0.0, 1.0, 2 * seed), Network(delta, 2.0, 2 * seed + 1)] for seed in range(2)]
    assert separation(trainings).whole == pytest.approx(1 + delta**2 / 5, rel=0.02)


def test_separation_of_what_did_not_move_has_no_unit(single):
    found = separation([[single, single]] * 2)
    assert found.whole is None
    assert set(found.layers) == {None}


def test_one_training_has_no_noise_to_compare_with(single):
    with pytest.raises(ValueError, match="two at least"):
        separation([[single, single]])


@pytest.fixture(scope="module")
def fitted(problem, make_engine, tmp_path_factory):
    """A fit with and one without the separation, with their stages in one folder."""
    cache, found = tmp_path_factory.mktemp("stages"), {}
    for asked in (False, True):
        engine = make_engine(PLAN, cache=cache)
        found[asked] = OSDTW(weights=4, separation=asked).fit(problem, engine), engine
    return found


def test_a_fit_says_how_far_apart_head_and_tail_went_and_is_the_same_otherwise(fitted):
    (plain, without), (same, told) = fitted[False], fitted[True]
    for name, value in plain.network.state_dict().items():
        torch.testing.assert_close(same.network.state_dict()[name], value, rtol=0, atol=0)
    assert not (without.run.path / "separation.json").exists()
    found = told.run.read_json("separation.json")
    assert found["whole"] > 0
    assert found["pairs"] == [found["whole"]]
    assert len(found["layers"]) == 3
    more = [record["stage"] for record in told.manifest if record not in without.manifest]
    assert any(note.startswith(f"separation {found['whole']:.2f}: ") for note in told.notes)
    assert more == ["stage1-head-again", "stage1-tail-again"]


def test_the_second_training_starts_at_the_same_backbone_and_goes_elsewhere(problem, make_engine):
    method, engine = OSDTW(stage1_epochs=0), make_engine(PLAN)
    for one, other in zip(
        method.specialists(problem, engine), method._second_specialists(problem, engine), strict=True
    ):
        assert not torch.equal(one.classifier(0).weight, other.classifier(0).weight)
        for here, there in zip(one.path(0).parameters(), other.path(0).parameters(), strict=True):
            torch.testing.assert_close(here, there, rtol=0, atol=0)
    method = OSDTW()
    for one, other in zip(
        method.specialists(problem, engine), method._second_specialists(problem, engine), strict=True
    ):
        assert all(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_under_a_budget_both_trainings_are_as_long_and_counted(problem, make_engine):
    free = make_engine(PLAN)
    OSDTW(weights=4, separation=True).fit(problem, free)
    engine = make_engine(dataclasses.replace(PLAN, flops=2 * free.flops))
    OSDTW(weights=4, separation=True).fit(problem, engine)
    assert engine.flops <= 2 * free.flops
    steps = {record["stage"]: record["steps"] for record in engine.manifest if "steps" in record}
    for task in ("head", "tail"):
        assert abs(steps[f"stage1-{task}"] - steps[f"stage1-{task}-again"]) <= 1


def test_tasks_that_train_for_different_lengths_cannot_be_compared():
    with pytest.raises(InputError, match="different lengths"):
        OSDTW(separation=True, stage1_images="own")
