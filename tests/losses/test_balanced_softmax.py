from __future__ import annotations

import math

import pytest
import torch

from forktail.errors import InputError
from forktail.losses.balanced_softmax import BalancedSoftmax
from forktail.losses.cross_entropy import CrossEntropy
from forktail.losses.logit_adjusted import LogitAdjusted


def draw():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("count", [1, 5, 1_000_000])
def test_equal_counts_give_cross_entropy_however_many_they_are(count):
    logits, targets = draw()
    losses = BalancedSoftmax([count] * 3)(logits, targets)
    torch.testing.assert_close(losses, CrossEntropy()(logits, targets), rtol=1e-12, atol=1e-12)


def test_it_is_logit_adjustment_at_unit_strength_in_loss_and_gradient():
    """log n and log pi differ by log N in every class; the buffers of both are rounded to float32."""
    logits, targets = draw()
    logits.requires_grad_()
    losses = [loss([50, 5, 1])(logits, targets) for loss in (BalancedSoftmax, LogitAdjusted)]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(values.sum(), logits)[0] for values in losses]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-7)


def test_worked_by_hand():
    """n = (3, 1) and z = 0: each image stands for as many votes, so the shares are 3/4 and 1/4."""
    losses = BalancedSoftmax([3, 1])(torch.zeros(2, 2).double(), torch.tensor([0, 1]))
    expected = torch.tensor([math.log(4 / 3), math.log(4)], dtype=torch.float64)
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)


def test_ten_times_as_many_images_of_every_class_change_nothing():
    logits, targets = draw()
    few, many = BalancedSoftmax([50, 5, 1]), BalancedSoftmax([500, 50, 10])
    torch.testing.assert_close(few(logits, targets), many(logits, targets), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("counts", [[5], [5, 0], [5.0, 1.0]])
def test_counts_without_a_logarithm_are_refused(counts):
    with pytest.raises(InputError, match="expected"):
        BalancedSoftmax(counts)
