import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from forktail.backbones.classified import Classified
from forktail.backbones.layered import Layered
from forktail.errors import InputError
from forktail.methods._contrastive import UNFILLED
from forktail.methods.gpaco import GPaCo, ViewContrast
from forktail.training.objective import Batch
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)
NO_KEYS = {"alpha": 0.0, "gamma": 0.0}


@pytest.fixture
def make_objective(problem):
    def make(**options):
        torch.manual_seed(0)
        chain = Layered(nn.Flatten(), [nn.Linear(192, 5)], nn.Identity(), num_features=5)
        network = Classified(chain, nn.Linear(5, 6))
        return ViewContrast(network, problem.counts, GPaCo(**options), torch.Generator().manual_seed(1))

    return make


@pytest.fixture
def batch():
    inputs = torch.randn(4, 2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return Batch(inputs, torch.tensor([0, 0, 1, 2]), torch.arange(4), 0.0, torch.Generator())


def test_every_view_is_judged_against_all_others(make_objective, batch, problem):
    objective = make_objective(alpha=0.3, moco_t=0.5, moco_k=3, smooth=0.1)
    objective.queue.enqueue(F.normalize(torch.ones(1, 128)), torch.tensor([1]))
    found = objective(batch)
    labels = [*batch.targets.tolist() * 2, 1]  # two places of the queue are empty
    h = objective.network.backbone(torch.cat([batch.inputs[:, 0], batch.inputs[:, 1]]))
    z = objective.network.classifier(h) + torch.from_numpy(problem.counts.prior).log().float()
    units = torch.cat([F.normalize(objective.projector(h)), objective.queue.features[:1]])
    losses = []
    for i in range(8):
        others = {j: units[i] @ units[j] / 0.5 for j in range(9) if j != i}
        normaliser = torch.logsumexp(torch.cat([z[i], torch.stack(list(others.values()))]), 0)
        same = [r - normaliser for j, r in others.items() if labels[j] == labels[i]]
        weights = torch.full((6,), 0.1 / 5).index_fill(0, torch.tensor(labels[i]), 0.9)
        losses.append(-((weights * (z[i] - normaliser)).sum() + 0.3 * sum(same)) / (1 + 0.3 * len(same)))
    expected = torch.stack(losses).reshape(2, 4).mean(0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_without_samples_it_is_the_mean_of_both_views_balanced_softmax(make_objective, batch, problem):
    found = make_objective(**NO_KEYS)(batch)
    network = make_objective().network
    log_prior = torch.from_numpy(problem.counts.prior).log().float()
    views = [F.cross_entropy(network(view) + log_prior, batch.targets, reduction="none") for view in
             batch.inputs.unbind(1)]  # fmt: skip
    torch.testing.assert_close(found, (views[0] + views[1]) / 2)


def test_both_views_carry_gradient_and_the_queue_none(make_objective, batch):
    objective = make_objective(moco_k=8)
    batch.inputs.requires_grad_()
    objective(batch).sum().backward()
    assert (batch.inputs.grad.abs().amax((0, 2, 3, 4)) > 0).all()
    batch.inputs.requires_grad_(False)
    h = objective.network.backbone(batch.inputs[:, 1])
    second = F.normalize(objective.projector(h))
    objective.after_step()
    torch.testing.assert_close(objective.queue.features[:4], second)
    assert not objective.queue.features.requires_grad
    assert objective.queue.labels.tolist() == [0, 0, 1, 2, *[UNFILLED] * 4]


def test_there_is_no_second_encoder_and_no_batch_norm(make_objective):
    objective = make_objective()
    assert all(value.requires_grad for value in objective.parameters())
    kinds = [type(module) for module in objective.projector]
    assert kinds == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_a_kill_in_the_middle_changes_no_bit(whole_and_killed):
    expected, found = whole_and_killed(GPaCo(moco_k=20), ViewContrast)
    assert expected.keys() == found.keys()
    assert (expected["objective.queue.labels"] != UNFILLED).all()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


def test_a_queue_longer_than_the_training_set_is_allowed(problem, make_engine, unseen):
    predictor = GPaCo(moco_k=100).fit(problem, make_engine(PLAN)).eval()
    assert torch.isfinite(predictor(unseen)).all()


def test_a_batch_of_one_image_is_refused(problem, make_engine):
    with pytest.raises(InputError, match="batch_size = 1"):
        GPaCo().fit(problem, make_engine(dataclasses.replace(PLAN, batch_size=1)))


@pytest.mark.parametrize(
    ("name", "value"), [("alpha", -0.1), ("beta", 0.0), ("moco_k", 0), ("smooth", 1.0), ("smooth", -0.1)]
)
def test_a_hyper_parameter_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=f"method.{name} = {value}"):
        GPaCo(**{name: value})
