"""What holds for every loss; a new one joins by a row in ``ROWS``, and is missed if it does not."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

import forktail.losses
from forktail.errors import InputError
from forktail.labels import ClassCounts
from forktail.losses._loss import Loss
from forktail.losses.balanced_bce import BalancedBCE
from forktail.losses.balanced_softmax import BalancedSoftmax
from forktail.losses.binary_cross_entropy import BinaryCrossEntropy
from forktail.losses.cross_entropy import CrossEntropy
from forktail.losses.logit_adjusted import LogitAdjusted


def softmax_loss(logits, targets):
    """One image, plain Python, from the definition."""
    largest = max(logits)
    log_total = largest + math.log(sum(math.exp(z - largest) for z in logits))
    return sum(t * (log_total - z) for z, t in zip(logits, targets, strict=True))


def bernoulli_loss(logits, targets):
    """One image, plain Python, as log-likelihood of C independent labels."""

    def log_sigmoid(z):
        return -math.log1p(math.exp(-z)) if z > 0 else z - math.log1p(math.exp(z))

    terms = zip(logits, targets, strict=True)
    return -sum(t * log_sigmoid(z) + (1 - t) * log_sigmoid(-z) for z, t in terms)


def log_prior(n):
    return [math.log(count / sum(n)) for count in n]


def log_counts(n):
    return [math.log(count) for count in n]


def log_odds(n):
    return [math.log(count) - math.log(sum(n) - count) for count in n]


def shifted(logits, by, tau=1.0):
    return [z + tau * b for z, b in zip(logits, by, strict=True)]


class Row(NamedTuple):
    build: Callable[[list[int]], Loss]
    reference: Callable[[list[float], list[float], list[int]], float]


ROWS = {
    CrossEntropy: [Row(lambda n: CrossEntropy(), lambda z, t, n: softmax_loss(z, t))],
    BinaryCrossEntropy: [Row(lambda n: BinaryCrossEntropy(), lambda z, t, n: bernoulli_loss(z, t))],
    LogitAdjusted: [
        Row(LogitAdjusted, lambda z, t, n: softmax_loss(shifted(z, log_prior(n)), t)),
        Row(lambda n: LogitAdjusted(n, tau=1.5), lambda z, t, n: softmax_loss(shifted(z, log_prior(n), 1.5), t)),
    ],
    BalancedSoftmax: [Row(BalancedSoftmax, lambda z, t, n: softmax_loss(shifted(z, log_counts(n)), t))],
    BalancedBCE: [
        Row(BalancedBCE, lambda z, t, n: bernoulli_loss(shifted(z, log_odds(n)), t)),
        Row(lambda n: BalancedBCE(n, tau=0.5), lambda z, t, n: bernoulli_loss(shifted(z, log_odds(n), 0.5), t)),
    ],
}
ALL = [pytest.param(row, id=f"{loss.__name__}-{i}") for loss, rows in ROWS.items() for i, row in enumerate(rows)]
COUNTS = {"long tail": [1_000_000, 300, 20, 1], "uniform": [7, 7, 7, 7], "a tail class first": [1, 50, 50, 9]}

every_loss = pytest.mark.parametrize("row", ALL)
all_counts = pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)


def draw(num=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(num, 4, generator=generator, dtype=dtype)
    return logits, torch.rand(num, 4, generator=generator, dtype=dtype)


def one_hot(classes):
    return torch.nn.functional.one_hot(classes, 4).double()


def test_every_loss_of_the_folder_is_tested_and_stands_alone_in_its_file():
    found = {}
    for info in pkgutil.iter_modules(forktail.losses.__path__):
        module = importlib.import_module(f"forktail.losses.{info.name}")
        own = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
        if not info.name.startswith("_"):
            found[info.name] = own
    assert {name for name, own in found.items() if len(own) != 1} == set()
    assert {own[0] for own in found.values()} == set(ROWS)


@every_loss
@all_counts
@pytest.mark.parametrize("kind", ["hard", "soft", "another task's image"])
def test_equals_its_definition(row, counts, kind):
    logits, soft = draw()
    targets = {"hard": one_hot(torch.arange(6) % 4), "soft": soft, "another task's image": torch.zeros(6, 4).double()}[
        kind
    ]
    losses = row.build(counts)(logits, targets)
    expected = [row.reference(z, t, counts) for z, t in zip(logits.tolist(), targets.tolist(), strict=True)]
    torch.testing.assert_close(losses, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@every_loss
def test_one_value_per_image_which_depends_on_that_image_alone(row):
    logits, targets = draw()
    loss = row.build(COUNTS["long tail"])
    together = loss(logits, targets)
    assert together.shape == (6,)
    alone = torch.cat([loss(logits[i : i + 1], targets[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=1e-14, atol=0)
    jacobian = torch.autograd.functional.jacobian(lambda z: loss(z, targets), logits)
    across = jacobian[~torch.eye(6, dtype=torch.bool)]
    torch.testing.assert_close(across, torch.zeros_like(across), rtol=0, atol=0)


@every_loss
@all_counts
def test_gradient_by_finite_differences(row, counts):
    logits, targets = draw()
    assert torch.autograd.gradcheck(lambda z: row.build(counts)(z, targets), logits.requires_grad_())


@every_loss
def test_class_indices_are_one_hot_targets(row):
    logits, _ = draw()
    classes = torch.tensor([0, 1, 2, 3, 3, 0])
    loss = row.build(COUNTS["long tail"])
    torch.testing.assert_close(loss(logits, classes), loss(logits, one_hot(classes)), rtol=0, atol=0)


@every_loss
@all_counts
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_extreme_logits(row, counts, dtype):
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4], [-1e4, 1e4, 0, 0], [1e4] * 4], dtype=dtype, requires_grad=True)
    losses = row.build(counts)(logits, torch.tensor([1, 0, 2]))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(gradient).all()
    assert (losses >= 0).all()
    assert losses[0] > 1e4 - 20


@every_loss
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_computed_in_single_precision_under_autocast(row, half):
    logits, targets = draw(dtype=torch.float32)
    loss = row.build(COUNTS["long tail"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = loss(logits.to(half), targets)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, loss(logits.to(half).float(), targets), rtol=0, atol=0)


@every_loss
def test_permuting_the_classes_permutes_nothing_else(row):
    logits, targets = draw()
    counts, permutation = COUNTS["long tail"], [2, 0, 3, 1]
    permuted = row.build([counts[c] for c in permutation])(logits[:, permutation], targets[:, permutation])
    torch.testing.assert_close(permuted, row.build(counts)(logits, targets), rtol=1e-12, atol=1e-12)


@every_loss
def test_constants_survive_saving_and_loading(row):
    logits, targets = draw()
    saved, other = row.build(COUNTS["long tail"]), row.build(COUNTS["uniform"])
    other.load_state_dict(saved.state_dict(), strict=True)
    torch.testing.assert_close(other(logits, targets), saved(logits, targets), rtol=0, atol=0)
    assert list(saved.parameters()) == []


@every_loss
def test_counts_may_be_any_sequence(row):
    logits, targets = draw()
    counts = COUNTS["long tail"]
    expected = row.build(counts)(logits, targets)
    for form in (tuple(counts), np.array(counts), ClassCounts(np.array(counts))):
        torch.testing.assert_close(row.build(form)(logits, targets), expected, rtol=0, atol=0)


@every_loss
@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (torch.zeros(2, 4), torch.zeros(2, 3)),
        (torch.zeros(2, 4), torch.zeros(3, dtype=torch.long)),
        (torch.zeros(2, 4), torch.zeros(2)),
        (torch.zeros(4), torch.zeros(4)),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(row, logits, targets):
    with pytest.raises(InputError, match="expected"):
        row.build(COUNTS["long tail"])(logits, targets)
