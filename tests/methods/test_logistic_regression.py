import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from forktail.methods._logistic_regression import GRADIENT, logistic_regression, most_evaluations

COUNTS = [14, 6, 3, 1]  # a tail down to a single image
PENALTY = 0.02


def draw(seed=0):
    """Four overlapping clouds in three dimensions."""
    random = np.random.RandomState(seed)
    labels = np.repeat(np.arange(4), COUNTS)
    centres = random.randn(4, 3)
    features = centres[labels] + 0.8 * random.randn(len(labels), 3)
    return (features - features.mean(0)) / features.std(0), labels


def log_prior():
    return np.log(np.array(COUNTS) / sum(COUNTS))


def solve(features, labels, offset, penalty=PENALTY, max_iterations=300):
    return logistic_regression(
        torch.from_numpy(features),
        torch.from_numpy(labels),
        torch.from_numpy(offset),
        penalty=penalty,
        max_iterations=max_iterations,
    )


def logits(x, weights, biases, offset):
    """One image, plain Python."""
    return [
        sum(weight * value for weight, value in zip(row, x, strict=True)) + bias + shift
        for row, bias, shift in zip(weights, biases, offset, strict=True)
    ]


def objective(coefficients, features, labels, offset, penalty):
    """The definition, image by image."""
    weights, biases = coefficients[:12].reshape(4, 3), coefficients[12:]
    total = 0.0
    for x, label in zip(features, labels, strict=True):
        z = logits(x, weights, biases, offset)
        total += math.log(sum(math.exp(value) for value in z)) - z[label]
    return total / len(labels) + penalty / 2 * sum(weight**2 for weight in weights.flat)


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.7])
def test_it_is_the_optimum_that_a_general_minimiser_finds(tau):
    features, labels = draw()
    offset = tau * log_prior()
    arguments = (features, labels, offset, PENALTY)
    slow = minimize(objective, np.zeros(16), args=arguments, method="BFGS", jac="3-point", options={"gtol": 1e-7})
    found = solve(features, labels, offset)
    mine = torch.cat([found.weights.flatten(), found.biases]).numpy()
    assert objective(mine, *arguments) <= slow.fun + 1e-10
    np.testing.assert_allclose(mine, slow.x, rtol=0, atol=1e-4)


def test_every_derivative_is_zero_there():
    """mean_i (p_ic - [y_i = c]) x_id + penalty W_cd, coefficient by coefficient; biases have no penalty."""
    features, labels = draw()
    found = solve(features, labels, log_prior())
    weights, biases = found.weights.numpy(), found.biases.numpy()
    by_weights, by_biases = PENALTY * weights, np.zeros(4)
    for x, label in zip(features, labels, strict=True):
        z = logits(x, weights, biases, log_prior())
        for c in range(4):
            residual = math.exp(z[c]) / sum(math.exp(value) for value in z) - (c == label)
            by_biases[c] += residual / len(labels)
            by_weights[c] += residual * x / len(labels)
    largest = max(np.abs(by_weights).max(), np.abs(by_biases).max())
    assert largest <= GRADIENT
    assert found.gradient.item() == pytest.approx(largest, rel=1e-6, abs=1e-15)


def test_without_offset_it_is_scikit_learns():
    features, labels = draw()
    theirs = LogisticRegression(C=1 / (len(labels) * PENALTY), tol=1e-9, max_iter=10_000).fit(features, labels)
    found = solve(features, labels, np.zeros(4))
    np.testing.assert_allclose(found.weights.numpy(), theirs.coef_, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.biases.numpy(), theirs.intercept_, rtol=0, atol=1e-4)


def test_an_offset_moves_the_biases_and_nothing_else():
    features, labels = draw()
    plain, adjusted = solve(features, labels, np.zeros(4)), solve(features, labels, log_prior())
    torch.testing.assert_close(adjusted.weights, plain.weights, rtol=0, atol=1e-4)
    moved = (plain.biases - adjusted.biases).numpy()
    expected = log_prior() - log_prior().mean()  # a constant in all biases is no difference; both sum to zero
    np.testing.assert_allclose(moved, expected, rtol=0, atol=2e-4)
    np.testing.assert_allclose([plain.biases.sum(), adjusted.biases.sum()], 0, atol=1e-10)


def test_permuting_the_classes_permutes_the_solution():
    features, labels = draw()
    order = np.array([2, 0, 3, 1])  # class c becomes order[c]
    found, permuted = solve(features, labels, log_prior()), solve(features, order[labels], log_prior()[order.argsort()])
    torch.testing.assert_close(permuted.weights[order], found.weights, rtol=0, atol=1e-4)
    torch.testing.assert_close(permuted.biases[order], found.biases, rtol=0, atol=1e-4)


def test_a_larger_penalty_makes_smaller_weights_and_one_without_end_the_classes_own_frequencies():
    features, labels = draw()
    norms = [solve(features, labels, np.zeros(4), penalty).weights.norm().item() for penalty in (1e-3, 1e-1, 1e6)]
    assert norms[0] > norms[1] > norms[2]
    biases = solve(features, labels, np.zeros(4), 1e6).biases
    np.testing.assert_allclose(biases.softmax(0).numpy(), np.exp(log_prior()), rtol=1e-4)


def test_more_features_than_images_and_one_image_a_class_have_an_optimum():
    features = np.eye(3, 8) - np.eye(3, 8).mean(0)
    found = solve(features, np.arange(3), np.log(np.full(3, 1 / 3)), penalty=1e-3)
    assert found.gradient.item() <= GRADIENT
    assert (torch.from_numpy(features) @ found.weights.T + found.biases).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("max_iterations", [1, 3, 10, 300])
def test_the_cost_that_is_stated_beforehand_is_an_upper_bound(max_iterations):
    random = np.random.RandomState(0)  # badly scaled, so that the line search has work
    features = random.randn(60, 5) * np.array([1e-3, 0.1, 1, 10, 300])
    labels = random.randint(0, 4, 60)
    found = solve(features, labels, np.zeros(4), penalty=1e-4, max_iterations=max_iterations)
    assert found.evaluations.item() >= 1
    assert found.evaluations.item() <= most_evaluations(max_iterations)
    assert torch.isfinite(found.weights).all()


def test_a_solution_that_was_cut_short_says_so():
    features, labels = draw()
    assert solve(features, labels, log_prior(), max_iterations=2).gradient.item() > GRADIENT
