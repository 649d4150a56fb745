"""What joins passes: the parts that have no other test of their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forktail.errors import InputError
from forktail.fisher.capture import Capture
from forktail.fisher.gather import check_unmixed, evaluating, gradient_at, refuse_coupled
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy


def test_gradient_at_the_outputs():
    """sigmoid(z) - t."""
    logits, targets = torch.randn(3, 2), torch.eye(3)[:, :2]
    with torch.no_grad():
        found = gradient_at(BinaryCrossEntropy(), logits, targets)
    torch.testing.assert_close(found, logits.sigmoid() - targets)


def test_only_labels_of_single_images_are_unmixed():
    check_unmixed(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    for bad in (0.3, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1"):
            check_unmixed(torch.tensor([[0.0, bad]]))


def test_modes_come_back_also_after_an_error():
    network = nn.Sequential(nn.Dropout(), nn.Dropout().eval())

    def fail():
        with evaluating([network]):
            assert not any(module.training for module in network.modules())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [module.training for module in network.modules()] == [True, True, False]


def test_images_that_touch_one_another_show_in_two_of_them():
    class Centred(nn.Module):
        def forward(self, x):
            return x - 0.5 * x.mean(0)

    with pytest.raises(InputError, match="weight has other gradients for an image in a batch"):
        refuse_coupled(Capture(nn.Sequential(nn.Linear(3, 2), Centred()).eval()), torch.randn(5, 3))
    refuse_coupled(Capture(nn.Linear(3, 2).eval()), torch.randn(1, 3))
