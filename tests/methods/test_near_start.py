"""Stage 1 with a penalty on the distance from the initial weights."""

import pytest
import torch

from forktail.methods._near_start import NearStart
from forktail.methods._tasks import specialist
from forktail.training.objective import Batch


@pytest.fixture
def objective(problem):
    return NearStart(specialist(problem, 0, 1.0), decay=0.3)


def batch(unseen):
    return Batch(unseen, torch.arange(len(unseen)) % 6, torch.arange(len(unseen)), 0.0, torch.Generator())


def test_at_the_start_nothing_is_added(objective, unseen):
    torch.testing.assert_close(objective(batch(unseen)), objective.tasks(batch(unseen)), rtol=0, atol=0)


def test_the_penalty_is_of_all_but_the_classifier(objective, unseen):
    start = {name: value.detach().clone() for name, value in objective.network.named_parameters()}
    with torch.no_grad():
        for value in objective.network.parameters():
            value.add_(torch.rand(value.shape, generator=torch.Generator().manual_seed(value.numel())))
    penalty = 0.0
    for name, value in objective.network.named_parameters():
        if ".classifier." not in name:
            pairs = zip(value.flatten().tolist(), start[name].flatten().tolist(), strict=True)
            penalty += sum((now - before) ** 2 for now, before in pairs)
    added = objective(batch(unseen)) - objective.tasks(batch(unseen))
    torch.testing.assert_close(added, torch.full((len(unseen),), 0.3 / 2 * penalty), rtol=1e-4, atol=1e-4)


def test_its_gradient_is_lambda_times_the_distance_and_the_start_gets_none(objective, unseen):
    weight = objective.network.layer(0, 1)[0].weight
    with torch.no_grad():
        weight.add_(0.5)
    trained = [p for p in objective.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in objective.network.parameters()}
    (with_penalty,) = torch.autograd.grad(objective(batch(unseen)).mean(), [weight])
    (without,) = torch.autograd.grad(objective.tasks(batch(unseen)).mean(), [weight])
    torch.testing.assert_close(with_penalty - without, torch.full_like(weight, 0.3 * 0.5), rtol=1e-4, atol=1e-5)
