"""Targets that are partly the Stage-1 networks' probabilities."""

import numpy as np
import pytest
import torch

from forktail.labels import TaskSplit
from forktail.methods._tasks import WeightedTasks, task_losses
from forktail.methods._teaching import TaughtTasks
from forktail.training.objective import Batch, set_modes

COUNTS = np.array([3, 12, 1, 8, 2, 6])
WEIGHTS = [0.3, 0.7]


@pytest.fixture
def tasks(problem):
    return WeightedTasks(problem.network(problem.split), task_losses(problem, 1.0), problem.split.tasks, WEIGHTS)


@pytest.fixture
def teachers(problem):
    several = [problem.network(TaskSplit.single(3)) for _ in range(2)]
    with torch.no_grad():
        for number, teacher in enumerate(several):
            teacher.classifier(0).weight.add_(0.3 * (number + 1))
    return several


def batch(inputs, targets):
    return Batch(inputs, targets, torch.arange(len(inputs)), 0.0, torch.Generator())


def slow_losses(network, teachers, problem, inputs, targets, share):
    """Two binary cross-entropies per task, image and class, added in Python."""
    prior, losses = COUNTS / COUNTS.sum(), np.zeros(len(inputs))
    with torch.no_grad():
        scores, taught = network.task_scores(inputs), [teacher(inputs) for teacher in teachers]
    for task, classes in enumerate(problem.split.tasks):
        for image in range(len(inputs)):
            for column, c in enumerate(classes):
                offset = np.log(prior[c] / (1 - prior[c]))
                p, q = (1 / (1 + np.exp(-float(z[image, column]) - offset)) for z in (scores[task], taught[task]))
                for target, part in ((float(targets[image, c]), 1 - share), (q, share)):
                    bce = -target * np.log(p) - (1 - target) * np.log(1 - p)
                    losses[image] += WEIGHTS[task] * part * bce
    return losses


@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_loss_is_the_mean_of_two_cross_entropies(problem, unseen, tasks, teachers, share, mixed):
    labels = torch.arange(len(unseen)) % 6
    dense = torch.eye(6)[labels]
    dense = 0.6 * dense + 0.4 * dense.flip(0) if mixed else dense
    found = TaughtTasks(tasks, teachers, share)(batch(unseen, dense if mixed else labels))
    expected = slow_losses(tasks.network, teachers, problem, unseen, dense, share)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-5)


def test_teachers_are_frozen_copies_in_evaluation_mode(unseen, tasks, teachers):
    objective = TaughtTasks(tasks, teachers, 0.5)
    set_modes(objective)
    assert not any(module.training for module in objective.teachers.modules())
    assert tasks.network.training
    assert all(p.requires_grad for teacher in teachers for p in teacher.parameters())  # the originals
    loss = objective(batch(unseen, torch.zeros(len(unseen), dtype=torch.int64))).sum()
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in tasks.network.parameters()}
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, trained)[-2:])
