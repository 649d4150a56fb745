"""Where Fisher information is taken."""

import dataclasses

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods._criterion import Predicting
from forktail.methods._places import one_each
from forktail.methods.osdtw import OSDTW
from forktail.training.plan import Plan

PLAN = Plan(epochs=1, batch_size=8, lr=1e-2)
CELL = {"depth": 1, "weight": 0.5, "weights": 3, "groups": 0}


@pytest.fixture(scope="module")
def trained(problem, make_engine):
    engine = make_engine(PLAN)
    return engine, OSDTW(**CELL).specialists(problem, engine)


def test_a_network_taken_apart_says_what_it_said(problem, make_engine, trained):
    """Each task's outputs, from a network of its own: also what the tasks do not share is its own."""
    _, specialists = trained
    joint = problem.network(problem.split, 1)
    with torch.no_grad():
        for number, parameter in enumerate(joint.parameters()):
            parameter.add_(0.001 * number)
    inputs = torch.randn(3, *problem.train.with_transform(problem.preprocess)[0].shape)
    whole = joint.eval()(inputs)
    for network, classes in zip(one_each(joint, specialists), problem.split.tasks, strict=True):
        torch.testing.assert_close(network.eval()(inputs), whole[:, classes.tolist()])


@pytest.mark.parametrize("where", ["midpoint", "stage2"])
def test_distances_stay_those_of_stage_1_and_gradients_move(problem, trained, where):
    engine, specialists = trained
    method = OSDTW(**CELL, fisher_at=where)
    here, there = (Predicting(one, problem, engine) for one in (OSDTW(**CELL), method))
    usual = here._measurement.of(specialists).whole
    networks = there._networks(specialists)
    moved = there._measurement.of(specialists, networks).whole
    direct = there._measurement.of(networks).whole
    for a, b, c in zip(usual.units, moved.units, direct.units, strict=True):
        np.testing.assert_array_equal(a.position, b.position)
        np.testing.assert_array_equal(b.curvature, c.curvature)
        assert not np.array_equal(a.curvature, b.curvature)
        assert not np.array_equal(b.position, c.position)


def test_the_midpoint_is_half_way_in_what_is_shared_and_each_ones_own_in_the_rest(problem, trained):
    engine, specialists = trained
    networks = Predicting(OSDTW(**CELL, fisher_at="midpoint"), problem, engine)._networks(specialists)
    top = specialists[0].max_depth + 1
    for index in range(top + 1):
        of = [[p.detach() for p in one.layer(0, index).parameters()] for one in (*networks, *specialists)]
        for mid, other, first, second in zip(*of, strict=True):
            torch.testing.assert_close(mid, (first + second) / 2 if index < top else first)
            torch.testing.assert_close(other, (first + second) / 2 if index < top else second)


def test_the_criterion_says_where_its_gradients_were_taken(problem, trained):
    engine, specialists = trained
    found = OSDTW(**CELL, fisher_at="midpoint").criterion(problem, engine, specialists)
    assert found.facts["fisher_at"] == "midpoint"


@pytest.mark.parametrize("reading", ["refined", "raw"])
def test_coupled_readings_know_stage_1_alone(reading):
    with pytest.raises(InputError, match=r'method\.fisher_at = "midpoint"'):
        OSDTW(reading=reading, damping="movement", fisher_at="midpoint")


def test_a_stage_2_for_the_fisher_alone_has_no_place_in_a_budget(problem, make_engine):
    engine = make_engine(dataclasses.replace(PLAN, flops=1e9))
    with pytest.raises(InputError, match=r"plan\.flops"):
        OSDTW(**CELL, fisher_at="stage2").fit(problem, engine)


def test_a_stage_2_that_is_asked_for_twice_is_counted_once(problem, make_engine):
    engine = make_engine(PLAN)
    OSDTW(**CELL, fisher_at="stage2").fit(problem, engine)  # it is also that of the pinned weight
    names = [record["stage"] for record in engine.manifest]
    assert names.count("stage2") == 1


@pytest.mark.parametrize("where", ["stage1", "midpoint"])
def test_both_measurements_of_a_merge_fit_in_the_budget(problem, make_engine, where):
    options = {"stage2_start": "merged", "fisher_at": where}
    free = make_engine(PLAN)
    OSDTW(**CELL, **options).fit(problem, free)
    assert [record["stage"] for record in free.manifest].count("moments") == (1 if where == "stage1" else 2)
    engine = make_engine(dataclasses.replace(PLAN, flops=3 * free.flops))
    OSDTW(**CELL, **options).fit(problem, engine)
    assert engine.flops <= 3 * free.flops
