import dataclasses
import json

import pytest
import torch

from forktail.data.sampling import ClassAware
from forktail.errors import InputError
from forktail.methods.ce import CE
from forktail.methods.crt import CRT
from forktail.training.engine import Engine
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)


def test_its_features_are_those_of_plain_training_which_is_trained_once(problem, make_engine, tmp_path):
    plain = CE().fit(problem, make_engine(PLAN, cache=tmp_path))
    engine = make_engine(PLAN, cache=tmp_path)
    retrained = CRT().fit(problem, engine)
    lines = [json.loads(line) for line in (engine.run.path / "timing.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["found"]) for line in lines] == [("training", True), ("classifier", False)]
    before = plain.network.path(0).state_dict()
    for name, value in retrained.network.backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)
    assert not any(parameter.requires_grad for parameter in retrained.network.backbone.parameters())


def test_the_new_classifier_begins_anew(problem, make_engine):
    unmoved = CRT(classifier_epochs=0).fit(problem, make_engine(PLAN)).network.classifier.weight
    other = CRT(classifier_epochs=0).fit(problem, make_engine(dataclasses.replace(PLAN, epochs=1))).network
    torch.testing.assert_close(other.classifier.weight, unmoved, rtol=0, atol=0)
    assert not torch.allclose(unmoved, problem.network().classifier(0).weight)


class Noting(Engine):
    """An engine that remembers the samplers and plans of its stages."""

    def train(self, stage, objective, images, plan=None, *sampler):
        self.seen[stage] = (plan, *sampler)
        return super().train(stage, objective, images, plan, *sampler)


def test_the_second_stage_is_class_aware_and_has_its_published_length(problem, make_engine):
    engine = Noting(make_engine().run, Plan(epochs=18, batch_size=32, lr=1e-2))
    engine.seen = {}
    CRT(lr_ratio=0.5).fit(problem, engine)
    assert engine.seen["training"] == (engine.plan,)
    plan, sampler = engine.seen["classifier"]
    assert sampler == ClassAware(each=4)
    assert (plan.epochs, plan.lr, plan.min_lr) == (10, 5e-3, 5e-7)


def test_the_second_stage_is_never_longer_than_the_first(problem, make_engine):
    engine = make_engine(PLAN)
    CRT().fit(problem, engine)
    assert [record["steps"] / record["steps_per_epoch"] for record in engine.manifest] == [PLAN.epochs] * 2


def test_a_budget_in_flops_is_divided_between_both(problem, make_engine):
    once = make_engine(PLAN)
    CRT().fit(problem, once)
    engine = make_engine(dataclasses.replace(PLAN, flops=2 * once.flops))
    CRT().fit(problem, engine)
    # Less than one step of each stage is left over.
    steps = [record["flops"] / record["steps"] for record in engine.manifest]
    assert 0 <= 2 * once.flops - engine.flops < sum(steps)
    assert len(engine.manifest) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifier_epochs": -1}, r"method.classifier_epochs = -1; expected a whole number >= 0"),
        ({"lr_ratio": 0.0}, r"method.lr_ratio = 0.0; expected a number > 0"),
        ({"lr_ratio": float("inf")}, r"method.lr_ratio = inf; expected a number > 0"),
    ],
)
def test_a_second_stage_that_is_none_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        CRT(**options)
