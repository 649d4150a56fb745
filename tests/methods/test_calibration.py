"""Temperatures and offsets on held-out images."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from forktail.methods._calibration import FARTHEST, HOTTEST, fit_calibration

PRIOR = np.array([0.1, 0.4, 0.05, 0.25, 0.05, 0.15])
TASKS = [np.array([1, 3, 5]), np.array([0, 4, 2])]
LOG_PRIOR = torch.from_numpy(np.log(PRIOR))


def drawn(labels, seed=0):
    outputs = np.random.default_rng(seed).normal(size=(len(labels), 6)) * 3
    outputs[np.arange(len(labels)), labels] += 2
    return outputs


def slow_nll(parameters, outputs, labels, rule):
    """Mean over classes of the mean over their images, one image at a time."""
    present, losses = sorted(set(labels)), {}
    for row, label in zip(outputs, labels, strict=True):
        scores = []
        for c in present:
            task = 0 if c in TASKS[0] else 1
            z = row[c] / np.exp(parameters[task]) + parameters[2 + task]
            p = 1 / (1 + np.exp(-z - np.log(PRIOR[c] / (1 - PRIOR[c]))))
            scores.append(np.log(p) - np.log(PRIOR[c]) if rule == "posterior" else z)
        losses.setdefault(label, []).append(np.log(np.sum(np.exp(scores))) - scores[present.index(label)])
    return np.mean([np.mean(several) for several in losses.values()])


@pytest.mark.parametrize("rule", ["posterior", "margin", "adjusted"])
@pytest.mark.parametrize("classes", [[0, 1, 2, 3, 4, 5], [0, 1, 3, 5]])
def test_it_is_the_optimum_of_the_slow_likelihood(rule, classes):
    labels = np.repeat(classes, np.arange(5, 5 + len(classes)))
    outputs = drawn(labels)
    found = fit_calibration(torch.from_numpy(outputs), torch.from_numpy(labels), TASKS, LOG_PRIOR, rule, 1.0)
    best = minimize(slow_nll, np.zeros(4), args=(outputs, labels, rule), method="BFGS")
    here = np.concatenate([np.log(found.temperatures), found.offsets])
    assert found.before == pytest.approx(slow_nll(np.zeros(4), outputs, labels, rule))
    assert found.after == pytest.approx(slow_nll(here, outputs, labels, rule))
    assert found.after == pytest.approx(best.fun, abs=1e-5)
    assert found.after < found.before
    np.testing.assert_allclose(here[:2], best.x[:2], atol=0.02)


def test_a_task_that_holds_nothing_out_keeps_its_outputs():
    labels = np.repeat([1, 3, 5], 6)
    outputs = torch.from_numpy(drawn(labels))
    found = fit_calibration(outputs, torch.from_numpy(labels), TASKS, LOG_PRIOR, "posterior", 1.0)
    assert (found.temperatures[1], found.offsets[1]) == (1.0, 0.0)
    assert found.temperatures[0] != 1.0


def test_images_that_are_told_apart_without_error_do_not_send_it_to_infinity():
    labels = np.repeat(np.arange(6), 3)
    outputs = 8 * np.eye(6)[labels]
    found = fit_calibration(torch.from_numpy(outputs), torch.from_numpy(labels), TASKS, LOG_PRIOR, "margin", 1.0)
    assert (found.temperatures >= 1 / HOTTEST - 1e-12).all()
    assert (np.abs(found.offsets) <= FARTHEST).all()
