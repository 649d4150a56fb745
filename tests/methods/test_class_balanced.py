import dataclasses
import math

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods.ce import CE
from forktail.methods.class_balanced import ClassBalanced
from forktail.training.objective import Supervised
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)
KINDS = ["softmax", "sigmoid", "focal"]


def effective_number_weights(counts, beta):
    raw = [(1 - beta) / (1 - beta**n) for n in counts]
    return [w * len(counts) / sum(raw) for w in raw]


def reference(logits, labels, weights, kind, gamma):
    """The authors' sums, image by image and class by class; a batch is divided by its images."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        if kind == "softmax":
            total += weights[label] * (np.log(np.exp(row).sum()) - row[label])
            continue
        for c, z in enumerate(row):
            right = 1 / (1 + np.exp(-z if c == label else z))
            total -= weights[label] * (1 - right) ** (gamma if kind == "focal" else 0) * np.log(right)
    return total / len(labels)


def start(problem, kind):
    """The network that training begins with."""
    network = problem.network()
    if kind != "softmax":
        torch.nn.init.constant_(network.classifier(0).bias, -math.log(5))
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_authors(plain, inputs, make_engine, logged, kind):
    with torch.no_grad():
        logits = start(plain, kind)(inputs).double().numpy()
    weights = effective_number_weights(plain.counts.per_class, 0.9)
    engine = make_engine(dataclasses.replace(PLAN, epochs=1))
    ClassBalanced(kind=kind, beta=0.9, gamma=1.5).fit(plain, engine)
    expected = reference(logits, plain.train.labels, weights, kind, gamma=1.5)
    assert logged(engine) == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_begins_with_its_share_of_the_probability(problem, make_engine, kind):
    network = ClassBalanced(kind=kind).fit(problem, make_engine(PLAN.for_epochs(0))).network
    bias = 0.0 if kind == "softmax" else -math.log(5)  # sigmoid(-log(C - 1)) = 1 / C
    torch.testing.assert_close(network.classifier(0).bias, torch.full((6,), bias))


def test_the_bias_of_the_classifier_does_not_decay(problem):
    network = problem.network()
    optimizer = PLAN.make_optimizer(Supervised(network, torch.nn.Identity()))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(network.classifier(0).bias)] == 0
    assert decays[id(network.classifier(0).weight)] == PLAN.weight_decay


def test_beta_zero_trains_the_very_network_of_cross_entropy(problem, make_engine, unseen):
    weighted = ClassBalanced(beta=0.0).fit(problem, make_engine(PLAN)).eval()
    plain = CE().fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(weighted.network(unseen), plain.network(unseen), rtol=1e-4, atol=1e-4)


def test_gamma_zero_trains_the_network_of_the_sigmoid_kind(problem, make_engine, unseen):
    focal = ClassBalanced(kind="focal", gamma=0.0).fit(problem, make_engine(PLAN)).eval()
    sigmoid = ClassBalanced(kind="sigmoid").fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(focal.network(unseen), sigmoid.network(unseen), rtol=1e-4, atol=1e-4)
    other = ClassBalanced(kind="focal", gamma=2.0).fit(problem, make_engine(PLAN)).eval()
    assert (other.network(unseen) - sigmoid.network(unseen)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_it_predicts_by_the_outputs_themselves(problem, make_engine, unseen, kind):
    predictor = ClassBalanced(kind=kind).fit(problem, make_engine(PLAN)).eval()
    outputs = predictor.network(unseen)
    torch.testing.assert_close(predictor(unseen) + predictor.log_weights(None), outputs, rtol=0, atol=0)
    assert predictor.training_logits(outputs) is None  # the weights tilt them, whatever the kind


@pytest.mark.parametrize(("name", "value"), [("beta", 1.0), ("beta", -0.1), ("gamma", -1.0), ("gamma", math.inf)])
def test_a_hyper_parameter_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=rf"method\.{name} = {value}; expected a number"):
        ClassBalanced(**{name: value})
