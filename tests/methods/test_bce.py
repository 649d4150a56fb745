import dataclasses
import math

import numpy as np
import pytest
import torch

from forktail.methods.bce import BCE
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)


@pytest.mark.parametrize(("scale", "divisor"), [("sum", 1), ("mean", 6)])
def test_every_class_is_a_term_and_the_scale_says_whether_they_are_added(
    plain, first_logits, make_engine, logged, scale, divisor
):
    present = 1 / (1 + np.exp(math.log(5) - first_logits))
    losses = []
    for row, label in zip(present, plain.train.labels, strict=True):
        losses.append(-sum(np.log(p if c == label else 1 - p) for c, p in enumerate(row)) / divisor)
    engine = make_engine(dataclasses.replace(PLAN, epochs=1))
    BCE(scale=scale).fit(plain, engine)
    assert logged(engine) == pytest.approx([np.mean(losses)], rel=1e-5)


def test_at_home_it_predicts_as_its_users_do_by_argmax_of_the_outputs(problem, make_engine, unseen):
    predictor = BCE().fit(problem, make_engine(PLAN)).eval()
    outputs = predictor.network(unseen)
    at_home = predictor(unseen) + predictor.log_weights(None)
    torch.testing.assert_close(at_home, torch.nn.functional.logsigmoid(outputs))  # rises with the output
    torch.testing.assert_close(at_home.argmax(1), outputs.argmax(1))
    torch.testing.assert_close(predictor.training_logits(outputs), outputs, rtol=0, atol=0)


def test_under_a_uniform_prior_the_training_probability_is_divided_by_the_prior(problem, make_engine, unseen):
    predictor = BCE().fit(problem, make_engine(PLAN)).eval()
    with torch.no_grad():
        outputs, scores = predictor.network(unseen).double().numpy(), predictor(unseen).numpy()
    expected = np.log(1 / (1 + np.exp(-outputs)) / problem.counts.prior)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
