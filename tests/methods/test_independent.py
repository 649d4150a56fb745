import dataclasses

import pytest
import torch

from forktail.labels import by_rank
from forktail.losses.balanced_bce import BalancedBCE
from forktail.methods.independent import Independent
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)


def test_the_two_networks_share_nothing(problem, make_engine):
    engine = make_engine(PLAN)
    network = Independent().fit(problem, engine).network
    assert network.depth == 0
    assert list(network.shared) == []
    assert [record["stage"] for record in engine.manifest] == ["stage1-head", "stage1-tail"]
    storages = [{p.data_ptr() for p in branch.parameters()} for branch in network.branches]
    assert not storages[0] & storages[1]


def test_each_minimises_the_loss_of_its_own_classes(plain, inputs, make_engine):
    """After training, each branch has a lower loss on its task than the initial network, in float64."""
    network = Independent().fit(plain, make_engine(Plan(epochs=20, batch_size=32, lr=1e-2))).network.double().eval()
    start = plain.network(plain.split, 0).double().eval()
    labels = torch.tensor(plain.train.labels)
    for task, classes in enumerate(plain.split.tasks):
        targets = (labels[:, None] == torch.tensor(classes.tolist())).double()
        loss = BalancedBCE(plain.counts, classes=classes)
        with torch.no_grad():
            before = loss(start.task_scores(inputs.double())[task], targets).mean()
            after = loss(network.task_scores(inputs.double())[task], targets).mean()
        assert after < 0.8 * before


@pytest.mark.parametrize("rule", ["margin", "posterior"])
def test_the_rule_reads_the_same_networks(problem, make_engine, unseen, rule):
    predictor = Independent(rule=rule).fit(problem, make_engine(PLAN)).eval()
    assert (predictor.rule, predictor.home) == (rule, "uniform")
    margin = predictor.network(unseen)
    assert torch.equal(predictor(unseen), margin) == (rule == "margin")


def test_a_budget_in_flops_is_divided_between_both(problem, make_engine):
    once = make_engine(PLAN)
    Independent().fit(problem, once)
    engine = make_engine(dataclasses.replace(PLAN, flops=2 * once.flops))
    Independent().fit(problem, engine)
    head, tail = (record["steps"] for record in engine.manifest)
    assert head == tail == 2 * once.manifest[0]["steps"]


def test_three_tasks_are_refused(problem, make_engine):
    three = dataclasses.replace(problem, split=by_rank(problem.counts, 3))
    with pytest.raises(Exception, match="split has 3 tasks; expected two for independent"):
        Independent().fit(three, make_engine(PLAN))
