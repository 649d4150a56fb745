"""Weights averaged along the end of a stage: the mean, and that nothing else of the training changes."""

import pytest
import torch

from forktail.methods._averaging import Averaged
from forktail.methods._tasks import specialist
from forktail.training.objective import Batch

STEPS = 8


def train(objective, network, inputs):
    """Take plain steps as the engine does; return the network's weights after each."""
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=0.5)
    after = []
    for step in range(STEPS):
        targets = torch.arange(len(inputs)) % 6
        loss = objective(Batch(inputs, targets, torch.arange(len(inputs)), step / STEPS, torch.Generator())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step()
        after.append({name: value.detach().clone() for name, value in network.state_dict().items()})
    return after


@pytest.mark.parametrize(("share", "counted"), [(0.25, 2), (0.5, 4), (1.0, 8), (0.01, 0)])
def test_the_mean_is_of_the_weights_after_each_of_the_last_steps(problem, unseen, share, counted):
    alone, inside = specialist(problem, 0, 1.0), specialist(problem, 0, 1.0)
    averaged = Averaged(inside, share)
    after = train(averaged, inside.network, unseen)
    assert_equal(after[-1], train(alone, alone.network, unseen)[-1])  # it trains as it would alone
    averaged.take_mean()
    counts = after[STEPS - counted :] if counted else after[-1:]  # no step is among the last 1 % of eight
    for name, value in inside.network.state_dict().items():
        mean = torch.stack([state[name].double() for state in counts]).mean(0)
        torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-6)
    assert counted < 2 or not torch.equal(
        inside.network.classifier(0).weight, after[-1]["branches.0.classifier.weight"]
    )


def test_the_mean_is_never_trained(problem):
    objective = Averaged(specialist(problem, 0, 1.0), 0.5)
    trained = {id(p) for p in objective.parameters() if p.requires_grad}
    assert trained == {id(p) for p in objective.objective.network.parameters()}


def assert_equal(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)
