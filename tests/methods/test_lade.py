import dataclasses

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods.balanced_softmax import BalancedSoftmax
from forktail.methods.lade import LADE, Disentangled, lade_regulariser
from forktail.training.mix import Mix
from forktail.training.objective import Batch
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)
PRIOR = torch.tensor([0.6, 0.3, 0.08, 0.02], dtype=torch.float64)


def draw(targets, classes=4):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(len(targets), classes, generator=generator, dtype=torch.float64), torch.tensor(targets)


def reference(z, y, prior, lam):
    """The authors' estimate, class by class, with their small constants."""
    total = 0.0
    for c in range(z.shape[1]):
        mine = [z[i, c] for i in range(len(z)) if y[i] == c]
        first = sum(mine) / (len(mine) + 1e-8)
        shifted = z[:, c] - np.log(prior[c] + 1e-9) + np.log(1 / z.shape[1] + 1e-9)
        second = np.log(np.exp(shifted).sum()) - np.log(len(z))
        total -= prior[c] * (first - second - lam * second**2)
    return total


@pytest.mark.parametrize("targets", [[0, 1, 2, 3, 0, 0], [0, 0, 1], [2, 2, 2, 2]], ids=["all", "no tail", "one class"])
def test_the_term_is_the_authors(targets):
    z, y = draw(targets)
    expected = reference(z.numpy(), y.tolist(), PRIOR.numpy(), 0.3)
    found = lade_regulariser(z, y, PRIOR, lam=0.3)
    torch.testing.assert_close(found.item(), expected, rtol=1e-6, atol=1e-6)


def test_logits_that_are_the_density_ratio_have_no_constant():
    """At z = log(pi C) every b_c is 0, and R = -sum of pi_c log(pi_c C) over the classes that are there."""
    z = (PRIOR * 4).log().expand(5, 4)
    ratios = PRIOR * (PRIOR * 4).log()
    for lam in (0.0, 10.0):
        found = lade_regulariser(z, torch.tensor([0, 0, 1, 1, 3]), PRIOR, lam)
        torch.testing.assert_close(found, -ratios[[0, 1, 3]].sum(), rtol=1e-12, atol=1e-12)


def test_equal_logits_under_a_uniform_prior_cost_nothing():
    even = torch.full((4,), 0.25, dtype=torch.float64)
    found = lade_regulariser(torch.zeros(4, 4, dtype=torch.float64), torch.arange(4), even, lam=0.5)
    torch.testing.assert_close(found.item(), 0.0)


def test_its_gradient_is_that_of_finite_differences():
    z, y = draw([0, 0, 1, 2])  # class 3 is absent, and its logits are trained nevertheless
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: lade_regulariser(z, y, PRIOR, lam=0.5), z)
    (slope,) = torch.autograd.grad(lade_regulariser(z, y, PRIOR, lam=0.5), z)
    assert slope[:, 3].abs().min() > 0


def test_it_stays_finite_at_extreme_logits_and_counts():
    prior = torch.tensor([1e6, 1.0]) / (1e6 + 1)
    z = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = lade_regulariser(z, torch.tensor([0, 1]), prior, lam=0.01)
    (slope,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()


def test_a_step_pays_balanced_softmax_and_the_term_of_its_batch(problem):
    plain = problem.train.with_transform(problem.preprocess)
    inputs = torch.stack([plain[i] for i in range(8)])
    targets = torch.from_numpy(problem.train.labels[:8])
    network = problem.network()
    objective = Disentangled(network, problem.counts, alpha=0.2, lam=0.3)
    found = objective(Batch(inputs, targets, targets, 0.0, torch.Generator()))
    z = network(inputs).detach().double().numpy()
    weighted = problem.counts.per_class * np.exp(z)
    own = [-np.log(row[y] / row.sum()) for row, y in zip(weighted, targets, strict=True)]
    expected = np.array(own) + 0.2 * reference(z, targets.tolist(), problem.counts.prior, 0.3)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)


def test_without_the_term_it_is_balanced_softmax(problem, make_engine, unseen):
    found = LADE(alpha=0.0).fit(problem, make_engine(PLAN)).eval()
    expected = BalancedSoftmax().fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(found(unseen), expected(unseen), rtol=0, atol=0)
    other = LADE(alpha=1.0).fit(problem, make_engine(PLAN)).eval()
    assert (other(unseen) - expected(unseen)).abs().max() > 1e-3


def test_it_predicts_under_any_prior_with_z_as_it_is(problem, make_engine, unseen):
    predictor = LADE().fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(predictor(unseen), predictor.network(unseen), rtol=0, atol=0)
    torch.testing.assert_close(predictor.log_weights(None), torch.zeros(6), rtol=0, atol=0)


def test_a_budget_in_flops_sets_its_length(problem, make_engine, logged):
    once = make_engine(dataclasses.replace(PLAN, epochs=1))
    LADE().fit(problem, once)
    engine = make_engine(dataclasses.replace(PLAN, flops=3.5 * once.flops))
    LADE().fit(problem, engine)
    assert [record["steps"] for record in engine.manifest] == [3]
    assert np.isfinite(logged(engine)).all()


def test_mixed_images_are_refused(problem, make_engine):
    mixing = dataclasses.replace(PLAN, mix=Mix(mixup=0.8))
    with pytest.raises(InputError, match="needs one class of each image"):
        LADE().fit(problem, make_engine(mixing))


@pytest.mark.parametrize("name", ["alpha", "remine_lambda"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_a_weight_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=f"method.{name} = {value}"):
        LADE(**{name: value})
