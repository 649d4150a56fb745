"""What every method says of its stages and its cost, checked against what its `fit` asks the engine for."""

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


@pytest.mark.parametrize("name", method_names())
def test_a_method_asks_for_the_stages_and_the_compute_that_it_states(real_problem, ce_flops, tmp_path, name):
    kind = find_method(name)
    engine = Counting(Run(tmp_path), Plan(batch_size=4))
    kind().fit(real_problem, engine)
    asked = {record["stage"] for record in engine.manifest}
    assert asked
    assert asked <= set(kind.stages)  # some wait for an option
    assert engine.flops / ce_flops == pytest.approx(kind.compute, rel=0.1, abs=0.01)
