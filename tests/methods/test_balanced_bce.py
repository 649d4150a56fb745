import dataclasses

import numpy as np
import pytest
import torch

from forktail.methods.balanced_bce import BalancedBCE
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)


def log_odds(problem):
    counts = np.asarray(problem.counts.per_class, dtype=np.float64)
    return np.log(counts / (counts.sum() - counts))


@pytest.mark.parametrize("tau", [1.0, 0.7, 0.0])
def test_the_prior_odds_enter_the_sum_over_classes(plain, first_logits, make_engine, logged, tau):
    """The first step's loss, label by label in float64."""
    logits = first_logits + tau * log_odds(plain)
    present = 1 / (1 + np.exp(-logits))
    losses = []
    for row, label in zip(present, plain.train.labels, strict=True):
        losses.append(-sum(np.log(p if c == label else 1 - p) for c, p in enumerate(row)))
    engine = make_engine(dataclasses.replace(PLAN, epochs=1))
    BalancedBCE(tau=tau).fit(plain, engine)
    assert logged(engine) == pytest.approx([np.mean(losses)], rel=1e-5)


def test_by_default_it_predicts_as_livt_does_by_the_outputs_themselves(problem, make_engine, unseen):
    predictor = BalancedBCE().fit(problem, make_engine(PLAN)).eval()
    outputs = predictor.network(unseen)
    torch.testing.assert_close(predictor(unseen), outputs, rtol=0, atol=0)
    torch.testing.assert_close(predictor.log_weights(None), torch.zeros(6), rtol=0, atol=0)


@pytest.mark.parametrize("tau", [1.0, 0.7])
def test_the_posterior_divides_the_training_probability_by_the_prior(problem, make_engine, unseen, tau):
    predictor = BalancedBCE(tau=tau, rule="posterior").fit(problem, make_engine(PLAN)).eval()
    with torch.no_grad():
        logits = predictor.network(unseen).double().numpy() + tau * log_odds(problem)
        scores = predictor(unseen)
        training = predictor.training_logits(predictor.network(unseen))
    expected = np.log(1 / (1 + np.exp(-logits)) / problem.counts.prior)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(training.numpy(), logits, rtol=1e-4, atol=1e-5)


def test_the_rule_reads_one_and_the_same_network(problem, make_engine, unseen):
    engine = make_engine(PLAN)
    margin, posterior = (BalancedBCE(rule=rule).fit(problem, engine).eval() for rule in ("margin", "posterior"))
    torch.testing.assert_close(margin.network(unseen), posterior.network(unseen), rtol=0, atol=0)
    assert len({record["fingerprint"] for record in engine.manifest}) == 1  # trained once, found once
    assert not torch.equal(margin(unseen), posterior(unseen))


def test_a_budget_in_flops_sets_its_length(problem, make_engine):
    once = make_engine(dataclasses.replace(PLAN, epochs=1))
    BalancedBCE().fit(problem, once)
    engine = make_engine(dataclasses.replace(PLAN, flops=3.5 * once.flops))
    BalancedBCE().fit(problem, engine)
    assert engine.manifest[0]["steps"] == 3
