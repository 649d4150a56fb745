import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from forktail.backbones.classified import Classified
from forktail.backbones.layered import Layered
from forktail.errors import InputError
from forktail.losses.balanced_softmax import BalancedSoftmax
from forktail.methods._contrastive import UNFILLED
from forktail.methods.paco import MomentumContrast, PaCo
from forktail.training.objective import Batch, set_modes
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)


@pytest.fixture
def make_objective(problem):
    def make(**options):
        torch.manual_seed(0)
        chain = Layered(nn.Flatten(), [nn.Linear(192, 5)], nn.Identity(), num_features=5)
        network = Classified(chain, nn.Linear(5, 6))
        return MomentumContrast(network, problem.counts, PaCo(**options), torch.Generator().manual_seed(1))

    return make


@pytest.fixture
def batch():
    inputs = torch.randn(6, 2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return Batch(inputs, torch.tensor([0, 0, 1, 2, 5, 1]), torch.arange(6), 0.0, torch.Generator())


def test_first_views_are_judged_against_second_views_of_the_slow_encoder(make_objective, batch, problem):
    objective = make_objective(alpha=0.3, moco_t=0.5, moco_k=4)
    objective.queue.enqueue(F.normalize(torch.ones(1, 32)), torch.tensor([1]))
    with torch.no_grad():  # so that the two encoders are two
        objective.network.backbone.units[0].weight.mul_(1.5)
    found = objective(batch)
    h = objective.network.backbone(batch.inputs[:, 0])
    z = objective.network.classifier(h) + torch.from_numpy(problem.counts.prior).log().float()
    q = F.normalize(objective.projector(h))
    slow, projected = objective.follower.module
    k = torch.cat([F.normalize(projected(slow(batch.inputs[:, 1]))), objective.queue.features])
    labels = torch.cat([batch.targets, torch.tensor([1])])  # three places of the queue are empty
    for i, y in enumerate(batch.targets):
        samples = [(q[i] @ q[j] / 0.5, batch.targets[j]) for j in range(6) if j != i]
        samples += [(q[i] @ k[j] / 0.5, labels[j]) for j in range(7)]
        normaliser = torch.logsumexp(torch.cat([z[i], torch.stack([r for r, _ in samples])]), 0)
        same = [r - normaliser for r, label in samples if label == y]
        expected = -(z[i, y] - normaliser + 0.3 * sum(same)) / (1 + 0.3 * len(same))
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-5)


def test_without_samples_it_pays_balanced_softmax_and_leaves_the_projector_alone(make_objective, batch, problem):
    objective = make_objective(alpha=0.0, gamma=0.0)
    losses = objective(batch)
    expected = BalancedSoftmax(problem.counts)(objective.network(batch.inputs[:, 0]), batch.targets)
    torch.testing.assert_close(losses, expected)
    losses.sum().backward()
    assert all(not value.grad.abs().max() for value in objective.projector.parameters())


def test_the_slow_encoder_gets_no_gradient_and_follows_after_the_step(make_objective, batch):
    objective = make_objective(moco_m=0.75)
    slow = objective.follower.module[0].units[0].weight
    before = slow.clone()
    objective(batch).sum().backward()
    assert all(value.grad is None for value in objective.follower.parameters())
    with torch.no_grad():
        objective.network.backbone.units[0].weight.add_(1.0)
    torch.testing.assert_close(slow, before, rtol=0, atol=0)
    objective.after_step()
    torch.testing.assert_close(slow, before + 0.25)


def test_the_slow_encoder_normalises_by_its_batch(make_objective):
    objective = make_objective()
    set_modes(objective)
    norms = [module for module in objective.follower.modules() if isinstance(module, nn.BatchNorm1d)]
    assert norms
    assert all(norm.training for norm in norms)


def test_the_queue_takes_the_keys_of_the_step_after_it(make_objective, batch):
    objective = make_objective(moco_k=8)
    objective(batch)
    assert (objective.queue.labels == UNFILLED).all()
    slow, projected = objective.follower.module
    keys = F.normalize(projected(slow(batch.inputs[:, 1])))
    objective.after_step()
    torch.testing.assert_close(objective.queue.features[:6], keys)
    assert objective.queue.labels.tolist() == [*batch.targets.tolist(), UNFILLED, UNFILLED]
    assert objective._keys is None


def test_a_kill_in_the_middle_changes_no_bit(whole_and_killed):
    expected, found = whole_and_killed(PaCo(moco_k=20, moco_m=0.9), MomentumContrast)
    assert expected.keys() == found.keys()
    assert (expected["objective.queue.labels"] != UNFILLED).all()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


def test_what_it_leaves_is_a_plain_network(problem, make_engine, unseen):
    predictor = PaCo().fit(problem, make_engine(PLAN)).eval()
    assert isinstance(predictor.network, Classified)
    torch.testing.assert_close(predictor(unseen), predictor.network(unseen), rtol=0, atol=0)


def test_a_batch_of_one_image_is_refused(problem, make_engine):
    with pytest.raises(InputError, match="batch_size = 1"):
        PaCo().fit(problem, make_engine(dataclasses.replace(PLAN, batch_size=1)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", -0.1), ("beta", 0.0), ("gamma", -1.0), ("supt", 0.0), ("moco_t", 0.0), ("moco_t", float("nan")),
        ("moco_k", 0), ("moco_dim", 0), ("moco_m", 1.0),
    ],
)  # fmt: skip
def test_a_hyper_parameter_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=f"method.{name} = {value}"):
        PaCo(**{name: value})
