from __future__ import annotations

import math

import pytest
import torch

from forktail.losses.class_balanced import ClassBalanced
from forktail.losses.cross_entropy import CrossEntropy
from forktail.losses.generalized_reweighted import GeneralizedReweighted

COUNTS = [50, 5, 1]


def draw():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("changes", [{"counts": [9, 9, 9]}, {"rho": 0.0}])
def test_without_weights_it_is_cross_entropy(changes):
    logits, targets = draw()
    losses = GeneralizedReweighted(**{"counts": COUNTS} | changes)(logits, targets)
    torch.testing.assert_close(losses, CrossEntropy()(logits, targets), rtol=1e-6, atol=0)


def test_unit_exponent_is_the_class_balanced_limit():
    """beta near 1 counts every image, so its weights go with 1 / n_c too."""
    logits, targets = draw()
    losses = GeneralizedReweighted(COUNTS)(logits, targets)
    torch.testing.assert_close(losses, ClassBalanced(COUNTS, beta=1 - 1e-9)(logits, targets), rtol=1e-5, atol=0)


def test_the_ratio_of_two_weights_is_a_power_of_the_ratio_of_their_counts():
    """ImageNet-LT: 1280 images against 5 and rho = 1.2."""
    weights = GeneralizedReweighted([1280, 100, 5], rho=1.2).class_weights
    torch.testing.assert_close((weights[2] / weights[0]).item(), 256**1.2, rtol=1e-5, atol=0)


def test_worked_by_hand():
    """n = (3, 1): 1 / pi = (4/3, 4), which scaled to mean 1 is (1/2, 3/2)."""
    losses = GeneralizedReweighted([3, 1])(torch.zeros(2, 2).double(), torch.tensor([0, 1]))
    expected = torch.tensor([0.5, 1.5], dtype=torch.float64) * math.log(2)
    torch.testing.assert_close(losses, expected, rtol=1e-7, atol=0)
