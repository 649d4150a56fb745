from __future__ import annotations

import math

import pytest
import torch

from forktail.losses._log_odds import log_odds_against


def draw():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(6, 4, generator=generator, dtype=torch.float64)


def test_equals_its_definition():
    p = draw().softmax(1)
    torch.testing.assert_close(log_odds_against(draw()), ((1 - p) / p).log(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("gap", [40.0, 1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_where_one_minus_p_is_lost(gap, dtype):
    """Three others, each ``gap`` below: the odds against are 3 e^-gap."""
    found = log_odds_against(torch.tensor([[gap, 0, 0, 0]], dtype=dtype))[0, 0].item()
    assert found == pytest.approx(math.log(3) - gap, rel=1e-6)


def test_two_equally_likely_classes():
    """Of a tie, one class alone is taken for the likeliest; both have even odds."""
    found = log_odds_against(torch.tensor([[5.0, 5.0]], dtype=torch.float64))
    torch.testing.assert_close(found, torch.zeros(1, 2).double(), rtol=0, atol=1e-15)


def test_gradient_by_finite_differences():
    assert torch.autograd.gradcheck(log_odds_against, draw().requires_grad_())


def test_gradient_at_a_tie_is_the_same_for_both():
    logits = torch.tensor([[5.0, 5.0, 0.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_odds_against(logits)[0, :2].sum(), logits)
    torch.testing.assert_close(gradient[0, 0], gradient[0, 1], rtol=1e-14, atol=1e-15)
