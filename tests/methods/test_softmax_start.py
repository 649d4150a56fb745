"""The offsets that bring a softmax near the posterior rule."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from forktail.methods._softmax_start import softmax_offsets

PRIOR = np.array([0.5, 0.3, 0.15, 0.05])


def posterior(outputs, tau):
    """softmax of log sigmoid(z + tau logit pi) - log pi, written out."""
    a = outputs + tau * np.log(PRIOR / (1 - PRIOR))
    return softmax(-np.log1p(np.exp(-a)) - np.log(PRIOR), axis=1)


def divergence(outputs, offsets, tau):
    wanted = posterior(outputs, tau)
    return np.mean(np.sum(wanted * (np.log(wanted) - log_softmax(outputs + offsets, axis=1)), axis=1))


@pytest.fixture
def outputs():
    return np.random.default_rng(0).normal(size=(50, 4)) * 2


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0])
def test_no_other_offsets_are_nearer(outputs, tau):
    offsets = softmax_offsets(torch.from_numpy(outputs), torch.from_numpy(np.log(PRIOR)), tau).numpy()
    assert offsets.sum() == pytest.approx(0, abs=1e-12)
    least = divergence(outputs, offsets, tau)
    assert least < divergence(outputs, np.zeros(4), tau)
    assert least < divergence(outputs, (tau - 1) * np.log(PRIOR) - tau * np.log1p(-PRIOR), tau)  # the limit of small p
    for step in np.random.default_rng(1).normal(size=(20, 4)) * 0.05:
        assert divergence(outputs, offsets + step - step.mean(), tau) > least


def test_the_mean_prediction_is_that_of_the_posterior(outputs):
    """The condition of the optimum."""
    offsets = softmax_offsets(torch.from_numpy(outputs), torch.from_numpy(np.log(PRIOR)), 1.0).numpy()
    found, wanted = softmax(outputs + offsets, axis=1).mean(0), posterior(outputs, 1.0).mean(0)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
