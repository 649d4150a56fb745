import dataclasses

import numpy as np
import pytest
import torch

from forktail.methods.ce import CE
from forktail.methods.logit_adjustment import LogitAdjustment
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)


def test_the_prior_enters_the_loss(plain, first_logits, make_engine, logged):
    """The first step's loss, recomputed in float64 with log pi added to the logits of the untrained network."""
    prior = np.asarray(plain.counts.per_class) / sum(plain.counts.per_class)
    method = LogitAdjustment(tau=0.7)
    logits = first_logits + 0.7 * np.log(prior)
    losses = [np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, plain.train.labels, strict=True)]
    engine = make_engine(dataclasses.replace(PLAN, epochs=1))
    method.fit(plain, engine)
    assert logged(engine) == pytest.approx([np.mean(losses)], rel=1e-5)


def test_no_strength_trains_the_very_network_of_cross_entropy(problem, make_engine, unseen):
    adjusted = LogitAdjustment(tau=0.0).fit(problem, make_engine(PLAN)).eval()
    plain = CE().fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(adjusted.network(unseen), plain.network(unseen), rtol=0, atol=0)


def test_its_outputs_are_scores_of_a_uniform_prior(problem, make_engine, unseen):
    predictor = LogitAdjustment().fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(predictor(unseen), predictor.network(unseen), rtol=0, atol=0)
    torch.testing.assert_close(predictor.log_weights(None), torch.zeros(6), rtol=0, atol=0)
    assert predictor.training_logits(unseen) is None
