import dataclasses

import numpy as np
import pytest
import torch

from forktail.methods.ce import CE
from forktail.training.plan import Plan

ONE_STEP = Plan(epochs=1, batch_size=32, lr=1e-2)


def reference(logits, labels):
    """Mean of -log softmax at the label, image by image, in float64."""
    losses = []
    for row, label in zip(logits.double().numpy(), labels, strict=True):
        losses.append(-(row[label] - np.log(sum(np.exp(value) for value in row))))
    return np.mean(losses)


def test_it_minimises_the_cross_entropy_of_all_images(plain, inputs, make_engine, logged):
    engine = make_engine(ONE_STEP)
    network = plain.network()
    with torch.no_grad():
        before = reference(network(inputs), plain.train.labels)
    predictor = CE().fit(plain, engine)
    assert logged(engine) == pytest.approx([before], rel=1e-5)
    with torch.no_grad():
        assert reference(predictor.network(inputs), plain.train.labels) < before


def test_it_predicts_under_the_training_prior_by_the_plain_outputs(problem, make_engine, unseen):
    predictor = CE().fit(problem, make_engine(ONE_STEP)).eval()
    outputs = predictor.network(unseen)
    at_home = predictor(unseen) + predictor.log_weights(None)
    torch.testing.assert_close(at_home, outputs)
    balanced = (outputs - problem_log_prior(problem)).softmax(1)
    torch.testing.assert_close((predictor(unseen) + predictor.log_weights("uniform")).softmax(1), balanced)
    assert predictor.training_logits(unseen) is None


def problem_log_prior(problem):
    counts = torch.tensor(problem.counts.per_class, dtype=torch.float32)
    return (counts / counts.sum()).log()


def test_a_budget_in_flops_sets_its_length(problem, make_engine):
    once = make_engine(ONE_STEP)
    CE().fit(problem, once)
    engine = make_engine(dataclasses.replace(ONE_STEP, flops=3.5 * once.flops))
    CE().fit(problem, engine)
    assert engine.manifest[0]["steps"] == 3
