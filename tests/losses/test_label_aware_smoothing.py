from __future__ import annotations

import math

import pytest
import torch

from forktail.errors import InputError
from forktail.losses.cross_entropy import CrossEntropy
from forktail.losses.label_aware_smoothing import LabelAwareSmoothing

COUNTS = [90, 50, 10]
SHAPES = {"concave": None, "linear": None, "convex": None, "exp": 3.0}

every_shape = pytest.mark.parametrize(("shape", "power"), SHAPES.items(), ids=SHAPES)


def draw():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])


@every_shape
def test_no_smoothing_gives_cross_entropy(shape, power):
    logits, targets = draw()
    losses = LabelAwareSmoothing(COUNTS, 0.0, 0.0, shape, power)(logits, targets)
    torch.testing.assert_close(losses, CrossEntropy()(logits, targets), rtol=1e-12, atol=0)


@every_shape
def test_head_and_tail_get_what_they_were_given(shape, power):
    smooth = LabelAwareSmoothing(COUNTS, 0.4, 0.1, shape, power).smooth
    torch.testing.assert_close(smooth[[0, 2]], torch.tensor([0.4, 0.1]))


@pytest.mark.parametrize(
    ("shape", "power", "expected"),
    [
        ("concave", None, 0.1 + 0.3 * math.sqrt(0.5)),
        ("linear", None, 0.25),
        ("convex", None, 0.4 - 0.3 * math.sqrt(0.5)),
        ("exp", 3.0, 0.1 + 0.3 / 8),
    ],
)
def test_half_way_between_them(shape, power, expected):
    """n = 50 lies half way from 10 to 90, and sin and cos of pi / 4 are sqrt(1/2)."""
    smooth = LabelAwareSmoothing(COUNTS, 0.4, 0.1, shape, power).smooth
    torch.testing.assert_close(smooth[1].item(), expected, rtol=1e-6, atol=0)


@every_shape
def test_equal_counts_and_equal_ends_are_ordinary_label_smoothing(shape, power):
    logits, targets = draw()
    expected = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.25, reduction="none")
    for loss in (
        LabelAwareSmoothing([7, 7, 7], 0.25, 0.0, shape, power),
        LabelAwareSmoothing(COUNTS, 0.25, 0.25, shape, power),
    ):
        torch.testing.assert_close(loss(logits, targets), expected, rtol=1e-7, atol=0)


def test_the_true_class_has_its_share_of_the_smoothing():
    """Smallest where softmax(z) is eps / C on every class, the true one too, and 1 - eps more on that."""
    target = torch.tensor([[0.6 + 0.4 / 3, 0.4 / 3, 0.4 / 3]], dtype=torch.float64)
    logits = target.log().requires_grad_()
    losses = LabelAwareSmoothing(COUNTS, 0.4, 0.1)(logits, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros(1, 3).double(), rtol=0, atol=1e-7)


def test_a_mixed_image_is_smoothed_as_each_of_its_classes():
    logits, _ = draw()
    loss = LabelAwareSmoothing(COUNTS, 0.4, 0.1)
    mixed = loss(logits, torch.tensor([[0.25, 0.0, 0.75]]).double().expand(6, 3))
    ends = [loss(logits, torch.full((6,), c)) for c in (0, 2)]
    torch.testing.assert_close(mixed, 0.25 * ends[0] + 0.75 * ends[1], rtol=1e-12, atol=0)


def test_worked_by_hand():
    """softmax = (1/4, 3/4), the head's eps = 0.4: 0.6 log 4 and 0.4 times the mean of log 4 and log 4/3."""
    losses = LabelAwareSmoothing([9, 1], 0.4, 0.1)(torch.tensor([[1.0, 3.0]]).double().log(), torch.tensor([0]))
    expected = 0.6 * math.log(4) + 0.4 * (math.log(4) + math.log(4 / 3)) / 2
    torch.testing.assert_close(losses, torch.tensor([expected], dtype=torch.float64), rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": "convexe"}, '"convexe".*did you mean "convex"'),
        ({"shape": "exp"}, "power None"),
        ({"shape": "linear", "power": 2.0}, "power 2.0"),
        ({"smooth_head": 1.5}, "smoothing of 1.5"),
        ({"smooth_tail": -0.1}, "smoothing of 0.3 and -0.1"),
        ({"shape": "exp", "power": 0.0}, "power 0.0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        LabelAwareSmoothing(COUNTS, **changes)
