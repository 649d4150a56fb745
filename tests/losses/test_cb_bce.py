from __future__ import annotations

import math

import pytest
import torch

from forktail.losses.binary_cross_entropy import BinaryCrossEntropy
from forktail.losses.cb_bce import CBBCE
from forktail.losses.class_balanced import ClassBalanced

COUNTS = [50, 5, 1]


def draw():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("changes", [{"counts": [9, 9, 9]}, {"beta": 0.0}])
def test_without_weights_it_is_binary_cross_entropy(changes):
    logits, targets = draw()
    losses = CBBCE(**{"counts": COUNTS} | changes)(logits, targets)
    torch.testing.assert_close(losses, BinaryCrossEntropy()(logits, targets), rtol=1e-12, atol=0)


def test_zero_logits_cost_c_log_2_whatever_the_image():
    """The weights of the columns sum to C."""
    losses = CBBCE(COUNTS)(torch.zeros(3, 3).double(), torch.tensor([0, 1, 2]))
    torch.testing.assert_close(losses, torch.full((3,), 3 * math.log(2), dtype=torch.float64), rtol=1e-6, atol=0)


def test_a_column_weighs_the_same_in_every_image():
    logits, targets = draw()
    logits.requires_grad_()
    loss = CBBCE(COUNTS)
    (plain,) = torch.autograd.grad(BinaryCrossEntropy()(logits, targets).sum(), logits)
    (gradient,) = torch.autograd.grad(loss(logits, targets).sum(), logits)
    torch.testing.assert_close(gradient, loss.column_weights * plain, rtol=1e-12, atol=0)


def test_it_is_not_the_loss_of_the_authors_of_the_weights():
    """One image of class 2, whose weight the class-balanced loss gives to the columns of classes 0 and 1 as well."""
    logits, loss = draw()[0][:1], CBBCE(COUNTS)
    others = torch.nn.functional.softplus(logits[:, :2])
    weights = loss.column_weights.double()
    difference = ClassBalanced(COUNTS, kind="sigmoid")(logits, torch.tensor([2])) - loss(logits, torch.tensor([2]))
    torch.testing.assert_close(difference, ((weights[2] - weights[:2]) * others).sum(1), rtol=1e-12, atol=0)
