import math

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods.ce import CE
from forktail.methods.focal import Focal
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)


@pytest.mark.parametrize("through", [True, False])
def test_the_modulator_enters_the_loss_wherever_the_gradient_goes(plain, first_logits, make_engine, logged, through):
    losses = []
    for row, label in zip(first_logits, plain.train.labels, strict=True):
        p = np.exp(row[label]) / np.exp(row).sum()
        losses.append((1 - p) ** 1.5 * -np.log(p))
    engine = make_engine(PLAN.for_epochs(1))
    Focal(gamma=1.5, through=through).fit(plain, engine)
    assert logged(engine) == pytest.approx([np.mean(losses)], rel=1e-5)


def test_where_the_gradient_goes_decides_the_network(problem, make_engine, unseen):
    through, around = (Focal(through=way).fit(problem, make_engine(PLAN)).eval() for way in (True, False))
    assert (through.network(unseen) - around.network(unseen)).abs().max() > 1e-3


@pytest.mark.parametrize("through", [True, False])
def test_gamma_zero_trains_the_very_network_of_cross_entropy(problem, make_engine, unseen, through):
    focal = Focal(gamma=0.0, through=through).fit(problem, make_engine(PLAN)).eval()
    plain = CE().fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(focal.network(unseen), plain.network(unseen), rtol=1e-4, atol=1e-4)


def test_it_predicts_under_the_training_prior_by_the_plain_outputs(problem, make_engine, unseen):
    predictor = Focal().fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(predictor(unseen) + predictor.log_weights(None), predictor.network(unseen))


@pytest.mark.parametrize("gamma", [-0.5, math.inf, math.nan])
def test_a_gamma_out_of_range_is_refused(gamma):
    with pytest.raises(InputError, match=rf"method\.gamma = {gamma}; expected a number >= 0"):
        Focal(gamma=gamma)
