from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.losses.balanced_bce import BalancedBCE
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy


def draw(columns):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, columns, generator=generator, dtype=torch.float64)
    return logits, torch.rand(6, columns, generator=generator, dtype=torch.float64)


def test_prior_of_one_half_gives_binary_cross_entropy():
    logits, targets = draw(2)
    torch.testing.assert_close(BalancedBCE([5, 5])(logits, targets), BinaryCrossEntropy()(logits, targets))


def test_no_strength_gives_binary_cross_entropy():
    logits, targets = draw(3)
    losses = BalancedBCE([50, 5, 1], tau=0)(logits, targets)
    torch.testing.assert_close(losses, BinaryCrossEntropy()(logits, targets), rtol=0, atol=0)


def test_logits_against_the_adjustment_cost_c_log_2():
    loss = BalancedBCE([50, 5, 1])
    losses = loss(-loss.adjustment[None].double(), torch.tensor([1]))
    torch.testing.assert_close(losses, torch.tensor([3 * math.log(2)]).double(), rtol=1e-6, atol=0)


def test_worked_by_hand():
    """pi = (3/4, 1/4) and z = 0: sigmoid(log odds) = pi, so each of the two terms is -log pi_y."""
    losses = BalancedBCE([3, 1])(torch.zeros(2, 2).double(), torch.tensor([0, 1]))
    expected = -2 * torch.tensor([3 / 4, 1 / 4], dtype=torch.float64).log()
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)


def test_the_tasks_losses_add_up_to_the_loss_of_all_classes():
    counts, tasks = [500, 60, 7, 1, 30], ([3, 0], np.array([4, 1, 2]))
    logits, targets = draw(5)
    parts = [BalancedBCE(counts, classes=task)(logits[:, task], targets[:, task]) for task in tasks]
    torch.testing.assert_close(sum(parts), BalancedBCE(counts)(logits, targets), rtol=1e-12, atol=0)


def test_a_task_keeps_the_prior_of_all_classes():
    adjustment = BalancedBCE([500, 60, 7, 1], classes=[3, 0]).adjustment
    expected = [math.log(1 / 567), math.log(500 / 68)]
    np.testing.assert_allclose(adjustment.numpy(), expected, rtol=1e-6)


def test_another_tasks_image_has_every_class_absent():
    loss = BalancedBCE([500, 60, 7, 1], classes=[2, 3])
    logits = torch.tensor([[0.3, -1.0]], dtype=torch.float64)
    expected = torch.nn.functional.softplus(logits + loss.adjustment).sum(1)
    torch.testing.assert_close(loss(logits, torch.zeros(1, 2).double()), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("counts", [[5], [5, 0], [5.0, 1.0]])
def test_counts_without_a_prior_are_refused(counts):
    with pytest.raises(InputError):
        BalancedBCE(counts)
