import dataclasses
import json

import pytest
import torch

from forktail.methods.ce import CE
from forktail.methods.lws import LWS
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)


def test_factors_of_one_give_the_logits_of_plain_training(problem, make_engine, unseen):
    plain = CE().fit(problem, make_engine(PLAN)).eval()
    scaled = LWS(classifier_epochs=0).fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(scaled.network(unseen), plain.network(unseen), rtol=0, atol=0)


def test_the_factors_alone_are_learned(problem, make_engine, unseen):
    plain = CE().fit(problem, make_engine(PLAN)).eval()
    scaled = LWS(classifier_epochs=4).fit(problem, make_engine(PLAN)).eval()
    trained = {name for name, parameter in scaled.network.named_parameters() if parameter.requires_grad}
    assert trained == {"classifier.factors"}
    factors = scaled.network.classifier.factors.detach()
    assert (factors != 1).all()
    torch.testing.assert_close(scaled.network(unseen), factors * plain.network(unseen))  # the bias is scaled, too


def test_the_gradient_of_a_factor_is_that_of_its_formula(problem, make_engine):
    """d/df_c CE(f z, y) = (p_c - [c = y]) z_c, image by image, in float64."""
    network = LWS(classifier_epochs=1).fit(problem, make_engine(PLAN)).network.double().eval()
    network.zero_grad()  # the last step's
    inputs = torch.stack([problem.train[i] for i in range(4)]).double()
    labels = torch.tensor(problem.train.labels[:4])
    torch.nn.functional.cross_entropy(network(inputs), labels, reduction="sum").backward()
    expected = torch.zeros(6, dtype=torch.float64)
    with torch.no_grad():
        for row, label in zip(network.backbone(inputs), labels, strict=True):
            z = network.classifier.classifier(row)
            p = (network.classifier.factors * z).exp()
            p = p / p.sum()
            p[label] -= 1
            expected += p * z
    torch.testing.assert_close(network.classifier.factors.grad, expected)
    assert network.classifier.classifier.weight.grad is None


@pytest.mark.parametrize(("optimizer", "ratio"), [("sgd", 1), ("adamw", 10)])
def test_the_factors_learn_faster_than_weights_under_an_adaptive_optimiser(problem, make_engine, optimizer, ratio):
    plan = dataclasses.replace(PLAN, optimizer=optimizer, batch_size=32, warmup=0.0)
    engine = make_engine(plan)
    LWS(classifier_epochs=1).fit(problem, engine)
    rates = [json.loads(line)["lr"] for line in (engine.run.path / "log.jsonl").read_text().splitlines()]
    assert rates[-1] == pytest.approx(ratio * plan.lr)
