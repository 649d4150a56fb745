from __future__ import annotations

import math

import pytest
import torch

from forktail.errors import InputError
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy
from forktail.losses.class_balanced import ClassBalanced
from forktail.losses.cross_entropy import CrossEntropy

COUNTS = [50, 5, 1]
KINDS = ["softmax", "sigmoid", "focal"]


def draw():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("changes", [{"counts": [9, 9, 9]}, {"beta": 0.0}])
def test_softmax_without_weights_is_cross_entropy(changes):
    logits, targets = draw()
    losses = ClassBalanced(**{"counts": COUNTS} | changes)(logits, targets)
    torch.testing.assert_close(losses, CrossEntropy()(logits, targets), rtol=1e-12, atol=0)


@pytest.mark.parametrize("changes", [{"counts": [9, 9, 9]}, {"beta": 0.0}])
def test_sigmoid_without_weights_is_binary_cross_entropy(changes):
    logits, targets = draw()
    losses = ClassBalanced(**{"counts": COUNTS, "kind": "sigmoid"} | changes)(logits, targets)
    torch.testing.assert_close(losses, BinaryCrossEntropy()(logits, targets), rtol=1e-12, atol=0)


@pytest.mark.parametrize("beta", [0.0, 0.9999])
def test_focal_without_gamma_is_the_sigmoid_kind_in_loss_and_gradient(beta):
    logits, targets = draw()
    logits.requires_grad_()
    kinds = [ClassBalanced(COUNTS, beta, kind, gamma=0.0) for kind in ("focal", "sigmoid")]
    losses = [loss(logits, targets) for loss in kinds]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    torch.testing.assert_close(*[torch.autograd.grad(values.sum(), logits)[0] for values in losses])


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_at_zero_logits(gamma):
    """Every column is half right: C times 0.5^gamma log 2, times the image's weight."""
    loss, targets = ClassBalanced(COUNTS, kind="focal", gamma=gamma), torch.tensor([0, 1, 2])
    expected = loss.class_weights.double() * 3 * 0.5**gamma * math.log(2)
    torch.testing.assert_close(loss(torch.zeros(3, 3).double(), targets), expected, rtol=1e-12, atol=0)


def test_focal_in_the_authors_stable_form():
    """exp(-gamma t z - gamma log(1 + e^-z)) BCE(z, t), for hard targets."""
    logits, targets = draw()
    hard = torch.nn.functional.one_hot(targets, 3).double()
    modulator = torch.exp(-0.5 * hard * logits - 0.5 * torch.log1p(torch.exp(-logits)))
    terms = modulator * torch.nn.functional.binary_cross_entropy_with_logits(logits, hard, reduction="none")
    losses = ClassBalanced(COUNTS, beta=0.0, kind="focal", gamma=0.5)(logits, targets)
    torch.testing.assert_close(losses, terms.sum(1), rtol=1e-12, atol=0)


def test_the_true_class_weighs_all_columns():
    """The gradient of every column, that of the absent classes too, is the plain one times the image's weight."""
    logits, targets = draw()
    logits.requires_grad_()
    loss = ClassBalanced(COUNTS, kind="sigmoid")
    (plain,) = torch.autograd.grad(BinaryCrossEntropy()(logits, targets).sum(), logits)
    (gradient,) = torch.autograd.grad(loss(logits, targets).sum(), logits)
    torch.testing.assert_close(gradient, loss.image_weights(targets)[:, None] * plain, rtol=1e-12, atol=0)


def test_authors_mean_over_pytorchs_is_the_mean_weight_of_the_batch():
    logits, targets = draw()
    loss = ClassBalanced(COUNTS)
    weights = loss.class_weights.double()
    ratio = loss(logits, targets).mean() / torch.nn.functional.cross_entropy(logits, targets, weight=weights)
    torch.testing.assert_close(ratio, weights[targets].mean(), rtol=1e-12, atol=0)


def test_worked_by_hand():
    """n = (2, 1), beta = 1/2: effective numbers 3/2 and 1, so weights 2/3 and 1, which scaled are 4/5 and 6/5."""
    losses = ClassBalanced([2, 1], beta=0.5)(torch.zeros(2, 2).double(), torch.tensor([0, 1]))
    expected = torch.tensor([0.8, 1.2], dtype=torch.float64) * math.log(2)
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_soft_targets_of_the_softmax_kind_alone_weigh_class_by_class(kind):
    """Half of class 0, half of class 2: the softmax kind mixes losses, the others mix weights and losses apart."""
    logits, loss = draw()[0][:1], ClassBalanced(COUNTS, kind=kind)
    mixed = loss(logits, torch.tensor([[0.5, 0.0, 0.5]]).double())
    ends = torch.stack([loss(logits, torch.tensor([c])) for c in (0, 2)])
    if kind == "softmax":
        torch.testing.assert_close(mixed, ends.mean(0), rtol=1e-12, atol=0)
    else:
        weights = loss.class_weights[[0, 2]].double()[:, None]
        torch.testing.assert_close(mixed, weights.mean() * (ends / weights).mean(0), rtol=1e-12, atol=0)


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match=r'"sigmod".*did you mean "sigmoid"'):
        ClassBalanced(COUNTS, kind="sigmod")
