from __future__ import annotations

import math

import pytest
import torch

from forktail.losses.cross_entropy import CrossEntropy
from forktail.losses.focal import Focal


def draw():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("through", [True, False])
def test_without_gamma_it_is_cross_entropy_in_loss_and_gradient(through):
    logits, targets = draw()
    logits.requires_grad_()
    losses = [loss(logits, targets) for loss in (Focal(gamma=0.0, through=through), CrossEntropy())]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(*[torch.autograd.grad(values.sum(), logits)[0] for values in losses])


def test_the_modulator_has_the_same_value_with_and_without_its_gradient():
    logits, targets = draw()
    torch.testing.assert_close(Focal()(logits, targets), Focal(through=False)(logits, targets), rtol=0, atol=0)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_past_the_modulator_the_gradient_is_that_of_cross_entropy_times_it(gamma):
    logits, targets = draw()
    logits.requires_grad_()
    (plain,) = torch.autograd.grad(CrossEntropy()(logits, targets).sum(), logits)
    (gradient,) = torch.autograd.grad(Focal(gamma, through=False)(logits, targets).sum(), logits)
    modulator = (1 - logits.detach().softmax(1).gather(1, targets[:, None])) ** gamma
    torch.testing.assert_close(gradient, modulator * plain, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_through_the_modulator_the_gradient_has_its_term_too(gamma):
    """d/dz_y of (1 - p)^gamma (-log p) is (1 - p)^gamma (gamma p log p - (1 - p))."""
    logits, targets = draw()
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(Focal(gamma)(logits, targets).sum(), logits)
    p = logits.detach().softmax(1).gather(1, targets[:, None])
    expected = (1 - p) ** gamma * (gamma * p * p.log() - (1 - p))
    torch.testing.assert_close(gradient.gather(1, targets[:, None]), expected, rtol=1e-11, atol=1e-14)


def test_worked_by_hand():
    """softmax(log 1, log 3) = (1/4, 3/4): squares of 3/4 and 1/4 before the logarithms."""
    logits = torch.tensor([[1.0, 3.0]] * 2).double().log()
    expected = torch.tensor([9 / 16 * math.log(4), 1 / 16 * math.log(4 / 3)], dtype=torch.float64)
    torch.testing.assert_close(Focal()(logits, torch.tensor([0, 1])), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_where_the_network_is_sure_and_right(dtype):
    """Two classes 30 nats apart: 1 - p = e^-30 and -log p = e^-30, in single precision as well."""
    loss = Focal(gamma=1.0)(torch.tensor([[30.0, 0.0]], dtype=dtype), torch.tensor([0]))
    torch.testing.assert_close(loss, torch.tensor([math.exp(-60)], dtype=dtype), rtol=1e-5, atol=0)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_never_above_cross_entropy(gamma):
    logits, targets = draw()
    assert (Focal(gamma)(logits, targets) < CrossEntropy()(logits, targets)).all()
