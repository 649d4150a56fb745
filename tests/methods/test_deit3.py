import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forktail.data.sampling import Repeated
from forktail.errors import InputError
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy
from forktail.methods.ce import CE
from forktail.methods.deit3 import DeiT3, presence_bce
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)
UNMIXED = {"mixup": 0.0, "cutmix": 0.0, "smoothing": 0.0, "repeats": 1}


class Asked(Engine):
    """An engine that remembers how it was asked to train."""

    def train(self, stage, objective, images, plan=None, sampler=None):
        self.asked = plan, sampler
        return super().train(stage, objective, images, plan, sampler)


def test_the_plan_mixes_as_the_fields_say_and_images_are_repeated(problem, make_engine):
    engine = make_engine(PLAN)
    engine.__class__ = Asked
    DeiT3().fit(problem, engine)
    plan, sampler = engine.asked
    assert plan == dataclasses.replace(PLAN, mix=Mix(mixup=0.8, cutmix=1.0, smoothing=0.1))
    assert sampler == Repeated(3)


def test_smoothed_targets_enter_cross_entropy(plain, smoothed_loss, make_engine, logged):
    engine = make_engine(PLAN.for_epochs(1))
    DeiT3(mixup=0.0, cutmix=0.0, repeats=1).fit(plain, engine)
    assert logged(engine) == pytest.approx([smoothed_loss], rel=1e-5)


def test_presence_counts_and_shares_do_not(problem):
    """-(1/C) sum_c log of the probability that class c is as it is, in float64."""
    random = np.random.RandomState(0)
    logits, targets = random.randn(4, 6), np.zeros((4, 6))
    targets[0, 2], targets[1, [0, 5]], targets[2, [3, 4]] = 1.0, [0.999, 0.001], [0.5, 0.5]  # and one of no class
    expected = []
    for row, shares in zip(logits, targets, strict=True):
        right = [1 / (1 + np.exp(-z if share > 0 else z)) for z, share in zip(row, shares, strict=True)]
        expected.append(-np.mean(np.log(right)))
    found = presence_bce(torch.from_numpy(logits), torch.from_numpy(targets))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("share", [1e-6, 0.3, 0.5])
def test_a_mixed_pair_has_two_targets_of_one_at_any_share(share):
    logits = torch.randn(1, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mixed = torch.tensor([[0.0, share, 0.0, 1 - share, 0.0]], dtype=torch.float64)
    both = torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(logits, both).reshape(1)
    torch.testing.assert_close(presence_bce(logits, mixed), expected)


def test_without_mixing_it_is_the_summed_loss_over_c(plain, inputs, make_engine, logged):
    with torch.no_grad():
        summed = BinaryCrossEntropy("sum")(plain.network()(inputs), torch.from_numpy(plain.train.labels)).mean()
    engine = make_engine(PLAN.for_epochs(1))
    DeiT3(loss="bce", **UNMIXED).fit(plain, engine)
    assert logged(engine) == pytest.approx([float(summed) / 6], rel=1e-5)


def test_with_nothing_of_its_own_it_is_cross_entropy(plain, make_engine, unseen):
    bare = DeiT3(**UNMIXED).fit(plain, make_engine(PLAN)).eval()
    ce = CE().fit(plain, make_engine(PLAN)).eval()
    torch.testing.assert_close(bare.network(unseen), ce.network(unseen), rtol=1e-4, atol=1e-4)  # in another order


def test_it_predicts_under_the_training_prior_by_argmax_of_the_outputs(problem, make_engine, unseen):
    softmax = DeiT3().fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(softmax(unseen) + softmax.log_weights(None), softmax.network(unseen))
    bernoulli = DeiT3(loss="bce", smoothing=0.0).fit(problem, make_engine(PLAN)).eval()
    at_home = bernoulli(unseen) + bernoulli.log_weights(None)
    torch.testing.assert_close(at_home, F.logsigmoid(bernoulli.network(unseen)))


def test_smoothing_that_would_make_every_class_a_target_is_refused():
    with pytest.raises(InputError, match=r"method\.smoothing = 0\.1 with loss \"bce\".*; set method\.smoothing = 0"):
        DeiT3(loss="bce")


@pytest.mark.parametrize(("name", "value"), [("mixup", -1.0), ("cutmix", -0.5), ("smoothing", 1.0), ("repeats", 0)])
def test_a_hyper_parameter_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=rf"^method\.{name} = {value}; expected a "):
        DeiT3(**{name: value})
