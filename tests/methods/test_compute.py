"""What every method says of its stages and its cost, checked against what its `fit` asks the engine for."""

import dataclasses

import numpy as np
import pytest

from forktail.backbones.open import BackboneSpec, input_facts
from forktail.data.augment import Augment, Preprocess
from forktail.data.images import ArrayPictures, Images
from forktail.labels import ClassCounts, by_rank
from forktail.methods import Problem, find_method, method_names
from forktail.run import Run
from forktail.training.engine import Engine, Shuffled
from forktail.training.plan import Plan

BACKBONE = BackboneSpec("tiny")
COUNTS = [4, 3, 2, 2, 1]
SHUFFLED = Shuffled()
ALL_OF_OSDTW = {
    "reading": "refined",
    "damping": 0.1,
    "refinement": "balanced_softmax",
    "separation": True,
    "calibration": True,
}
OPTIONAL_STAGES = {  # by what a method asks for all that it states
    "osdtw": [ALL_OF_OSDTW, {**ALL_OF_OSDTW, "depth": 0}],
    "ride": [{"routing": True, "teacher_experts": 4}],
}


class Counting(Engine):
    """An engine that counts what training would cost, and trains nothing."""

    def train(self, stage, objective, images, plan=None, sampler=SHUFFLED):
        facts = self._facts(stage, objective, images, plan or self.plan, sampler)
        self.manifest.append(facts)
        return objective.eval()


@pytest.fixture(scope="module")
def real_problem():
    """A dozen pictures of noise under the real backbone, so that the parts of a network have their real shares."""
    pixels = np.random.RandomState(0).randint(0, 256, (sum(COUNTS), 28, 28)).astype(np.uint8)
    counts = ClassCounts(np.array(COUNTS))
    preprocess = Preprocess(**input_facts(BACKBONE))
    images = Images.ordered(ArrayPictures(pixels), np.repeat(np.arange(5), COUNTS), tuple("abcde"))
    return Problem(
        train=images.with_transform(Augment(preprocess, "shift")),
        val=None,
        counts=counts,
        split=by_rank(counts, 2),
        backbone_spec=BACKBONE,
        preprocess=preprocess,
    )


@pytest.fixture(scope="module")
def ce_flops(real_problem, tmp_path_factory):
    engine = Counting(Run(tmp_path_factory.mktemp("ce")), Plan(batch_size=4))
    find_method("ce")().fit(real_problem, engine)
    return engine.flops


def asked_by(method, problem, folder):
    engine = Counting(Run(folder), Plan(batch_size=4))
    method.fit(problem, engine)
    return engine


@pytest.mark.parametrize("name", method_names())
def test_a_method_asks_for_the_compute_that_it_states(real_problem, ce_flops, tmp_path, name):
    kind = find_method(name)
    engine = asked_by(kind(), real_problem, tmp_path)
    assert engine.flops / ce_flops == pytest.approx(kind.compute, rel=0.1, abs=0.01)
    if name not in OPTIONAL_STAGES:
        assert tuple(record["stage"] for record in engine.manifest) == kind.stages


@pytest.mark.parametrize("name", OPTIONAL_STAGES)
def test_stages_that_wait_for_an_option_are_those_that_it_states(real_problem, tmp_path, name):
    kind = find_method(name)
    without = {record["stage"] for record in asked_by(kind(), real_problem, tmp_path / "default").manifest}
    assert without < set(kind.stages)
    with_held_out = dataclasses.replace(real_problem, val=real_problem.train)
    seen = []
    for number, options in enumerate(OPTIONAL_STAGES[name]):
        engine = asked_by(kind(**options), with_held_out, tmp_path / f"all{number}")
        seen.append([record["stage"] for record in engine.manifest])
        assert seen[-1] == [stage for stage in kind.stages if stage in seen[-1]]  # in that order
    assert set().union(*seen) == set(kind.stages)
