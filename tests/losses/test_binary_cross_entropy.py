from __future__ import annotations

import math

import pytest
import torch

from forktail.errors import InputError
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy


def test_zero_logits_cost_c_log_2():
    losses = BinaryCrossEntropy()(torch.zeros(2, 5).double(), torch.tensor([0, 4]))
    torch.testing.assert_close(losses, torch.full((2,), 5 * math.log(2), dtype=torch.float64), rtol=1e-15, atol=0)


def test_gradient_is_sigmoid_minus_target():
    logits = torch.tensor([[0.5, -2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[0.0, 1.0, 0.25]], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(BinaryCrossEntropy()(logits, targets).sum(), logits)
    torch.testing.assert_close(gradient, (torch.sigmoid(logits) - targets).detach(), rtol=1e-14, atol=0)


def test_sum_over_classes_is_c_times_the_mean_over_classes():
    logits, targets = torch.tensor([[0.5, -2.0, 3.0]]), torch.tensor([[0.0, 1.0, 0.25]])
    mean = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(BinaryCrossEntropy()(logits, targets)[0], 3 * mean)


def test_the_two_scales_differ_by_the_number_of_classes():
    logits, targets = torch.tensor([[0.5, -2.0, 3.0]]).double(), torch.tensor([[0.0, 1.0, 0.25]]).double()
    losses = [BinaryCrossEntropy(scale)(logits, targets) for scale in ("sum", "mean")]
    torch.testing.assert_close(losses[0], 3 * losses[1], rtol=1e-15, atol=0)


def test_an_unknown_scale_is_refused():
    with pytest.raises(InputError, match=r'"means".*did you mean "mean"'):
        BinaryCrossEntropy("means")
