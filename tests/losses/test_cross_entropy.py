from __future__ import annotations

import math

import torch

from forktail.losses.cross_entropy import CrossEntropy


def test_zero_logits_cost_log_c():
    expected = torch.full((2,), math.log(5), dtype=torch.float64)
    losses = CrossEntropy()(torch.zeros(2, 5).double(), torch.tensor([0, 4]))
    torch.testing.assert_close(losses, expected, rtol=1e-15, atol=0)


def test_worked_by_hand():
    """softmax(log 1, log 3) = (1/4, 3/4)."""
    losses = CrossEntropy()(torch.tensor([[1.0, 3.0]]).double().log(), torch.tensor([0]))
    torch.testing.assert_close(losses, torch.tensor([math.log(4)], dtype=torch.float64))
