from __future__ import annotations

import math

import torch

from forktail.losses.cross_entropy import CrossEntropy
from forktail.losses.logit_adjusted import LogitAdjusted


def draw():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])


def test_uniform_prior_gives_cross_entropy():
    logits, targets = draw()
    torch.testing.assert_close(LogitAdjusted([5, 5, 5])(logits, targets), CrossEntropy()(logits, targets))


def test_no_strength_gives_cross_entropy():
    logits, targets = draw()
    losses = LogitAdjusted([50, 5, 1], tau=0)(logits, targets)
    torch.testing.assert_close(losses, CrossEntropy()(logits, targets), rtol=0, atol=0)


def test_unit_strength_is_the_balanced_softmax_in_loss_and_gradient():
    """Counts in place of the prior: softmax does not see the constant log N between them."""
    logits, targets = draw()
    logits.requires_grad_()
    losses = LogitAdjusted([50, 5, 1])(logits, targets)
    balanced = CrossEntropy()(logits + torch.tensor([50.0, 5.0, 1.0]).double().log(), targets)
    torch.testing.assert_close(losses, balanced, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(values.sum(), logits)[0] for values in (losses, balanced)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


def test_worked_by_hand():
    """pi = (3/4, 1/4) and z = 0: softmax(log pi) = pi."""
    losses = LogitAdjusted([3, 1])(torch.zeros(2, 2).double(), torch.tensor([0, 1]))
    expected = torch.tensor([math.log(4 / 3), math.log(4)], dtype=torch.float64)
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)


def test_gradient_vanishes_where_the_adjusted_softmax_is_the_target():
    logits = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    prior = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(LogitAdjusted([7, 2, 1])(logits, prior).sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros(1, 3).double(), rtol=0, atol=1e-7)


def test_livts_balanced_cross_entropy_of_a_mixed_image():
    """Soft cross-entropy of softmax(z + tau log pi): pi = (3/4, 1/4), z = 0 and a half of each class."""
    losses = LogitAdjusted([3, 1])(torch.zeros(1, 2).double(), torch.tensor([[0.5, 0.5]]).double())
    expected = torch.tensor([math.log(4) - math.log(3) / 2], dtype=torch.float64)
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)
