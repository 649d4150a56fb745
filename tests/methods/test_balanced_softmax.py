import dataclasses

import numpy as np
import pytest
import torch

from forktail.methods.balanced_softmax import BalancedSoftmax
from forktail.methods.logit_adjustment import LogitAdjustment
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)


def test_the_counts_enter_the_loss(plain, first_logits, make_engine, logged):
    """The first step's loss, image by image in float64, with the counts as weights of the softmax's terms."""
    counts = np.asarray(plain.counts.per_class)
    shares = [counts * np.exp(row) / (counts * np.exp(row)).sum() for row in first_logits]
    losses = [-np.log(share[label]) for share, label in zip(shares, plain.train.labels, strict=True)]
    engine = make_engine(dataclasses.replace(PLAN, epochs=1))
    BalancedSoftmax().fit(plain, engine)
    assert logged(engine) == pytest.approx([np.mean(losses)], rel=1e-5)


def test_it_trains_the_network_of_logit_adjustment_at_unit_strength(problem, make_engine, unseen):
    balanced = BalancedSoftmax().fit(problem, make_engine(PLAN)).eval()
    adjusted = LogitAdjustment(tau=1.0).fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(balanced(unseen), adjusted(unseen), rtol=1e-4, atol=1e-4)
    other = LogitAdjustment(tau=0.5).fit(problem, make_engine(PLAN)).eval()
    assert (balanced(unseen) - other(unseen)).abs().max() > 1e-3


def test_its_outputs_are_scores_of_a_uniform_prior(problem, make_engine, unseen):
    predictor = BalancedSoftmax().fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(predictor(unseen), predictor.network(unseen), rtol=0, atol=0)
    torch.testing.assert_close(predictor.log_weights(None), torch.zeros(6), rtol=0, atol=0)
    assert predictor.training_logits(unseen) is None


def test_a_budget_in_flops_sets_its_length(problem, make_engine):
    once = make_engine(dataclasses.replace(PLAN, epochs=1))
    BalancedSoftmax().fit(problem, once)
    engine = make_engine(dataclasses.replace(PLAN, flops=3.5 * once.flops))
    BalancedSoftmax().fit(problem, engine)
    assert engine.manifest[0]["steps"] == 3
