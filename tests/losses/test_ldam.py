from __future__ import annotations

import math

import pytest
import torch

from forktail.losses.class_balanced import ClassBalanced
from forktail.losses.cross_entropy import CrossEntropy
from forktail.losses.ldam import LDAM

COUNTS = [160, 81, 10]


def draw():
    generator = torch.Generator().manual_seed(0)
    cosines = 2 * torch.rand(6, 3, generator=generator, dtype=torch.float64) - 1
    return cosines, torch.tensor([0, 1, 2, 2, 1, 0])


def test_margins_go_with_the_fourth_root_and_are_largest_for_the_rarest():
    """n = (160, 81, 10) over the rarest is (16, 8.1, 1)."""
    torch.testing.assert_close(LDAM(COUNTS).margins, torch.tensor([0.25, 0.5 / 8.1**0.25, 0.5]))


def test_no_margin_gives_cross_entropy_of_scaled_cosines():
    cosines, targets = draw()
    losses = LDAM(COUNTS, max_m=0.0)(cosines, targets)
    torch.testing.assert_close(losses, CrossEntropy()(30 * cosines, targets), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("count", [1, 1_000_000])
def test_equal_counts_give_one_margin_for_all(count):
    """CosFace (Wang et al. 2018) with margin max_m."""
    cosines, targets = draw()
    less = cosines - 0.5 * torch.nn.functional.one_hot(targets, 3)
    losses = LDAM([count] * 3)(cosines, targets)
    torch.testing.assert_close(losses, CrossEntropy()(30 * less, targets), rtol=1e-11, atol=1e-14)


def test_a_network_that_scales_by_itself_takes_the_scaled_margin():
    cosines, targets = draw()
    inside = LDAM(COUNTS, max_m=30 * 0.5, s=1.0)(30 * cosines, targets)
    torch.testing.assert_close(inside, LDAM(COUNTS)(cosines, targets), rtol=1e-5, atol=1e-6)


def test_pushes_the_true_cosine_up_and_the_others_down():
    cosines, targets = draw()
    (gradient,) = torch.autograd.grad(LDAM(COUNTS)(cosines.requires_grad_(), targets).sum(), cosines)
    is_true = torch.nn.functional.one_hot(targets, 3).bool()
    assert (gradient[is_true] < 0).all()
    assert (gradient[~is_true] > 0).all()


def test_a_mixed_image_pays_for_each_class_with_its_margin():
    cosines, _ = draw()
    loss = LDAM(COUNTS, beta=0.9999)
    mixed = loss(cosines, torch.tensor([[0.25, 0.0, 0.75]]).double().expand(6, 3))
    ends = [loss(cosines, torch.full((6,), c)) for c in (0, 2)]
    torch.testing.assert_close(mixed, 0.25 * ends[0] + 0.75 * ends[1], rtol=1e-12, atol=0)


def test_deferred_weights_are_those_of_the_class_balanced_loss():
    early, late = LDAM(COUNTS), LDAM(COUNTS, beta=0.9999)
    torch.testing.assert_close(early.class_weights, torch.ones(3), rtol=0, atol=0)
    torch.testing.assert_close(late.class_weights, ClassBalanced(COUNTS).class_weights, rtol=0, atol=0)


def test_worked_by_hand():
    """Cosines 0 and n = (16, 1): margins 1/4 and 1/2, so log(1 + e^(s m)) with s = 4 is log(1 + e) and log(1 + e^2)."""
    losses = LDAM([16, 1], s=4.0)(torch.zeros(2, 2).double(), torch.tensor([0, 1]))
    expected = torch.tensor([math.log1p(math.e), math.log1p(math.e**2)], dtype=torch.float64)
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_where_the_network_is_sure_and_right(dtype):
    """Two classes 60 apart less a margin of 15: log(1 + e^-45), in single precision as well."""
    loss = LDAM([5, 5])(torch.tensor([[1.0, -1.0]], dtype=dtype), torch.tensor([0]))
    torch.testing.assert_close(loss, torch.tensor([math.exp(-45)], dtype=dtype), rtol=1e-5, atol=0)
