from __future__ import annotations

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.losses._weights import effective_number_weights, mean_one
from forktail.losses.class_balanced import ClassBalanced
from forktail.losses.generalized_reweighted import GeneralizedReweighted
from forktail.losses.ldam import LDAM

COUNTS = [50, 5, 1]

every_weighted_loss = pytest.mark.parametrize(
    "build",
    [
        ClassBalanced,
        lambda n: ClassBalanced(n, kind="sigmoid"),
        lambda n: ClassBalanced(n, kind="focal"),
        lambda n: LDAM(n, beta=0.9999),
        GeneralizedReweighted,
    ],
    ids=["softmax", "sigmoid", "focal", "ldam", "grw"],
)


def test_effective_number_by_adding_up_what_each_image_brings():
    """The k-th image of a class is new with probability beta^(k - 1)."""
    weights = np.array([1 / sum(0.9**k for k in range(n)) for n in COUNTS])
    np.testing.assert_allclose(effective_number_weights(COUNTS, 0.9), 3 * weights / weights.sum(), rtol=1e-14)


def test_without_beta_every_class_weighs_one():
    np.testing.assert_array_equal(effective_number_weights([1_000_000, 5, 1], 0.0), np.ones(3))


@pytest.mark.parametrize("beta", [0.5, 0.9999, 1 - 1e-9])
def test_equal_counts_weigh_one(beta):
    np.testing.assert_allclose(effective_number_weights([7, 7, 7], beta), np.ones(3), rtol=1e-14)


def test_beta_near_one_weighs_by_the_inverse_count():
    weights = effective_number_weights(COUNTS, 1 - 1e-9)
    np.testing.assert_allclose(weights * COUNTS, np.full(3, weights[2]), rtol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999, 1 - 1e-9])
def test_weights_sum_to_the_number_of_classes(beta):
    np.testing.assert_allclose(effective_number_weights([1_000_000, 300, 20, 1], beta).sum(), 4, rtol=1e-14)


def test_classes_beyond_1_over_1_minus_beta_images_weigh_alike():
    """beta^n is nothing then: ten and a hundred thousand more prototypes than the class holds."""
    weights = effective_number_weights([1_000_000, 100_000, 1], 0.999)
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-14)
    np.testing.assert_allclose(weights[2] / weights[0], 1000, rtol=1e-12)


@pytest.mark.parametrize("beta", [-0.1, 1.0, 1.5, float("nan")])
def test_beta_outside_its_range_is_refused(beta):
    with pytest.raises(InputError, match=r"beta .* expected a number in \[0, 1\)"):
        effective_number_weights(COUNTS, beta)


def test_mean_one_keeps_the_proportions():
    np.testing.assert_allclose(mean_one(np.array([1.0, 2.0, 5.0])), [0.375, 0.75, 1.875], rtol=1e-15)


@every_weighted_loss
def test_image_weights_are_those_of_the_images_classes(build):
    loss = build(COUNTS)
    torch.testing.assert_close(loss.image_weights(torch.tensor([2, 0, 2])), loss.class_weights[[2, 0, 2]])


@every_weighted_loss
def test_a_mixed_image_weighs_the_mix(build):
    loss = build(COUNTS)
    targets = torch.tensor([[0.25, 0.0, 0.75], [0.0, 0.0, 0.0]])
    first, _, third = loss.class_weights.tolist()
    expected = torch.tensor([0.25 * first + 0.75 * third, 0.0])
    torch.testing.assert_close(loss.image_weights(targets), expected)


@every_weighted_loss
def test_weights_multiply_and_do_nothing_else(build):
    """Each image's loss over its weight is the loss of a class that is as frequent as every other."""
    loss, targets = build(COUNTS), torch.tensor([0, 1, 2])
    logits = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64).repeat(3, 1)
    before = loss(logits, targets) / loss.image_weights(targets)
    loss.class_weights.fill_(1)
    torch.testing.assert_close(loss(logits, targets), before, rtol=1e-6, atol=0)


def test_the_weighted_mean_is_that_of_pytorch():
    logits, targets = torch.tensor([[0.3, -2.0, 0.1], [1.0, 0.5, 0.0]]), torch.tensor([2, 0])
    loss = ClassBalanced(COUNTS)
    mean = loss(logits, targets).sum() / loss.image_weights(targets).sum()
    torch.testing.assert_close(mean, torch.nn.functional.cross_entropy(logits, targets, weight=loss.class_weights))
