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
from forktail.losses.cb_bce import CBBCE
from forktail.losses.class_balanced import ClassBalanced
from forktail.losses.cross_entropy import CrossEntropy
from forktail.losses.focal import Focal
from forktail.losses.generalized_reweighted import GeneralizedReweighted
from forktail.losses.label_aware_smoothing import LabelAwareSmoothing
from forktail.losses.ldam import LDAM
from forktail.losses.logit_adjusted import LogitAdjusted


def softmax_loss(logits, targets):
    """One image, plain Python, from the definition."""
    largest = max(logits)
    log_total = largest + math.log(sum(math.exp(z - largest) for z in logits))
    return sum(t * (log_total - z) for z, t in zip(logits, targets, strict=True))


def softmax(logits):
    weights = [math.exp(z - max(logits)) for z in logits]
    return [weight / sum(weights) for weight in weights]


def bernoulli_loss(logits, targets, gamma=0.0, columns=None):
    """One image, plain Python: C independent labels, a column's loss times its weight and (1 - right)^gamma."""

    def log_sigmoid(z):
        return -math.log1p(math.exp(-z)) if z > 0 else z - math.log1p(math.exp(z))

    def cost(z):
        return -((1 - math.exp(log_sigmoid(z))) ** gamma) * log_sigmoid(z)

    terms = zip(logits, targets, columns or [1] * len(logits), strict=True)
    return sum(w * (t * cost(z) + (1 - t) * cost(-z)) for z, t, w in terms)


def focal_loss(logits, targets, gamma):
    terms = zip(targets, softmax(logits), strict=True)
    return -sum(t * (1 - p) ** gamma * math.log(p) for t, p in terms)


def focal_gradient_past_the_modulator(logits, targets, gamma):
    """Cross-entropy's gradient for each class that the image may have, times that class's modulator."""
    p = softmax(logits)
    each = range(len(p))
    return [sum(targets[c] * (1 - p[c]) ** gamma * (p[k] - (c == k)) for c in each) for k in each]


def margin_loss(cosines, targets, n, max_m, s, weights):
    """One network output, scored once for each class that the image may have."""
    total = 0.0
    for c, (t, w) in enumerate(zip(targets, weights, strict=True)):
        alone = [float(k == c) for k in range(len(n))]
        margin = max_m * (min(n) / n[c]) ** 0.25
        total += t * w * softmax_loss([s * (z - margin * a) for z, a in zip(cosines, alone, strict=True)], alone)
    return total


def smoothed_loss(logits, targets, n, grown, head, tail):
    """One image; ``grown`` says how far from tail to head a class is whose count lies x of the way from min to max."""
    total = 0.0
    for c, t in enumerate(targets):
        x = (n[c] - min(n)) / (max(n) - min(n)) if max(n) > min(n) else 1
        epsilon = tail + (head - tail) * grown(x)
        label = [epsilon / len(n) + (1 - epsilon) * (k == c) for k in range(len(n))]
        total += t * softmax_loss(logits, label)
    return total


def effective(n, beta):
    weights = [
        1 / sum(beta**i for i in range(count)) if count < 1000 else (1 - beta) / (1 - beta**count) for count in n
    ]
    return [weight * len(n) / sum(weights) for weight in weights]


def power_of_prior(n, rho):
    weights = [(sum(n) / count) ** rho for count in n]
    return [weight * len(n) / sum(weights) for weight in weights]


def dot(targets, weights):
    return sum(t * w for t, w in zip(targets, weights, strict=True))


def weighted(targets, weights):
    return [t * w for t, w in zip(targets, weights, strict=True)]


def log_prior(n):
    return [math.log(count / sum(n)) for count in n]


def log_counts(n):
    return [math.log(count) for count in n]


def log_odds(n):
    return [math.log(count) - math.log(sum(n) - count) for count in n]


def shifted(logits, by, tau=1.0):
    return [z + tau * b for z, b in zip(logits, by, strict=True)]


class Row(NamedTuple):
    """A loss and what is expected of it.

    ``worth`` is what the loss makes of a nat that an image of class y costs, so that a sure mistake costs as much;
    ``gradient`` is the expected one where the loss is meant not to have that of its value.
    """

    build: Callable[[list[int]], Loss]
    reference: Callable[[list[float], list[float], list[int]], float]
    worth: Callable[[int, list[int]], float] = lambda y, n: 1.0
    gradient: Callable[[list[float], list[float], list[int]], list[float]] | None = None


ROWS = {
    CrossEntropy: [Row(lambda n: CrossEntropy(), lambda z, t, n: softmax_loss(z, t))],
    BinaryCrossEntropy: [
        Row(lambda n: BinaryCrossEntropy(), lambda z, t, n: bernoulli_loss(z, t)),
        Row(
            lambda n: BinaryCrossEntropy("mean"), lambda z, t, n: bernoulli_loss(z, t) / len(n), lambda y, n: 1 / len(n)
        ),
    ],
    LogitAdjusted: [
        Row(LogitAdjusted, lambda z, t, n: softmax_loss(shifted(z, log_prior(n)), t)),
        Row(lambda n: LogitAdjusted(n, tau=1.5), lambda z, t, n: softmax_loss(shifted(z, log_prior(n), 1.5), t)),
    ],
    BalancedSoftmax: [Row(BalancedSoftmax, lambda z, t, n: softmax_loss(shifted(z, log_counts(n)), t))],
    BalancedBCE: [
        Row(BalancedBCE, lambda z, t, n: bernoulli_loss(shifted(z, log_odds(n)), t)),
        Row(lambda n: BalancedBCE(n, tau=0.5), lambda z, t, n: bernoulli_loss(shifted(z, log_odds(n), 0.5), t)),
    ],
    ClassBalanced: [
        Row(
            ClassBalanced,
            lambda z, t, n: softmax_loss(z, weighted(t, effective(n, 0.9999))),
            lambda y, n: effective(n, 0.9999)[y],
        ),
        Row(
            lambda n: ClassBalanced(n, beta=0.99),
            lambda z, t, n: softmax_loss(z, weighted(t, effective(n, 0.99))),
            lambda y, n: effective(n, 0.99)[y],
        ),
        Row(
            lambda n: ClassBalanced(n, kind="sigmoid"),
            lambda z, t, n: dot(t, effective(n, 0.9999)) * bernoulli_loss(z, t),
            lambda y, n: effective(n, 0.9999)[y],
        ),
        Row(
            lambda n: ClassBalanced(n, kind="focal"),
            lambda z, t, n: dot(t, effective(n, 0.9999)) * bernoulli_loss(z, t, gamma=1.0),
            lambda y, n: effective(n, 0.9999)[y],
        ),
        Row(
            lambda n: ClassBalanced(n, kind="focal", gamma=2.0),
            lambda z, t, n: dot(t, effective(n, 0.9999)) * bernoulli_loss(z, t, gamma=2.0),
            lambda y, n: effective(n, 0.9999)[y],
        ),
        Row(
            lambda n: ClassBalanced(n, beta=0.999, kind="focal", gamma=0.5),
            lambda z, t, n: dot(t, effective(n, 0.999)) * bernoulli_loss(z, t, gamma=0.5),
            lambda y, n: effective(n, 0.999)[y],
        ),
    ],
    CBBCE: [
        Row(
            CBBCE,
            lambda z, t, n: bernoulli_loss(z, t, columns=effective(n, 0.9999)),
            lambda y, n: effective(n, 0.9999)[y],
        ),
        Row(
            lambda n: CBBCE(n, beta=0.9),
            lambda z, t, n: bernoulli_loss(z, t, columns=effective(n, 0.9)),
            lambda y, n: effective(n, 0.9)[y],
        ),
    ],
    Focal: [
        Row(lambda n: Focal(), lambda z, t, n: focal_loss(z, t, 2.0)),
        Row(lambda n: Focal(gamma=0.5), lambda z, t, n: focal_loss(z, t, 0.5)),
        Row(
            lambda n: Focal(through=False),
            lambda z, t, n: focal_loss(z, t, 2.0),
            gradient=lambda z, t, n: focal_gradient_past_the_modulator(z, t, 2.0),
        ),
    ],
    LDAM: [
        Row(LDAM, lambda z, t, n: margin_loss(z, t, n, 0.5, 30, [1] * len(n))),
        Row(lambda n: LDAM(n, s=20.0), lambda z, t, n: margin_loss(z, t, n, 0.5, 20, [1] * len(n))),
        Row(
            lambda n: LDAM(n, max_m=0.3, s=10.0, beta=0.9999),
            lambda z, t, n: margin_loss(z, t, n, 0.3, 10, effective(n, 0.9999)),
            lambda y, n: effective(n, 0.9999)[y],
        ),
    ],
    LabelAwareSmoothing: [
        Row(LabelAwareSmoothing, lambda z, t, n: smoothed_loss(z, t, n, lambda x: math.sin(math.pi / 2 * x), 0.3, 0.0)),
        Row(
            lambda n: LabelAwareSmoothing(n, 0.4, 0.1, shape="linear"),
            lambda z, t, n: smoothed_loss(z, t, n, lambda x: x, 0.4, 0.1),
        ),
        Row(
            lambda n: LabelAwareSmoothing(n, 0.4, 0.1, shape="convex"),
            lambda z, t, n: smoothed_loss(z, t, n, lambda x: 1 + math.sin(math.pi * (1.5 + x / 2)), 0.4, 0.1),
        ),
        Row(
            lambda n: LabelAwareSmoothing(n, 0.4, 0.1, shape="exp", power=0.3),
            lambda z, t, n: smoothed_loss(z, t, n, lambda x: x**0.3, 0.4, 0.1),
        ),
    ],
    GeneralizedReweighted: [
        Row(
            GeneralizedReweighted,
            lambda z, t, n: softmax_loss(z, weighted(t, power_of_prior(n, 1))),
            lambda y, n: power_of_prior(n, 1)[y],
        ),
        Row(
            lambda n: GeneralizedReweighted(n, rho=1.2),
            lambda z, t, n: softmax_loss(z, weighted(t, power_of_prior(n, 1.2))),
            lambda y, n: power_of_prior(n, 1.2)[y],
        ),
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
    loss = row.build(counts)
    if row.gradient is None:
        assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits.requires_grad_())
    else:
        (gradient,) = torch.autograd.grad(loss(logits.requires_grad_(), targets).sum(), logits)
        expected = [row.gradient(z, t, counts) for z, t in zip(logits.tolist(), targets.tolist(), strict=True)]
        torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


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
    cases = [[1e4, -1e4, 1e4, -1e4], [-1e4, 1e4, 0, 0], [1e4] * 4, [-1e4, -1e4, -1e4, 1e4], [0, 0, 60, 0]]
    logits = torch.tensor(cases, dtype=dtype, requires_grad=True)
    losses = row.build(counts)(logits, torch.tensor([1, 0, 2, 3, 2]))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(gradient).all()
    assert (losses >= 0).all()
    assert losses[0] > row.worth(1, counts) * (1e4 - 20)  # sure, and wrong


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


@pytest.mark.parametrize("loss", [loss for loss, rows in ROWS.items() if len(rows) > 1])
def test_every_setting_shows_in_representation_or_state(loss):
    """A stored training stage is known by them: a setting that showed in neither would load another's result."""

    def seen(built):
        return repr(built), {name: buffer.tolist() for name, buffer in built.state_dict().items()}

    built = [seen(row.build(COUNTS["long tail"])) for row in ROWS[loss]]
    assert [built.index(one) for one in built] == list(range(len(built)))


@every_loss
def test_shapes_alone_suffice(row):
    """Compute is counted on tensors without storage."""
    loss = row.build(COUNTS["long tail"]).to("meta")
    for targets in (torch.empty(6, 4, device="meta"), torch.empty(6, dtype=torch.int64, device="meta")):
        assert loss(torch.empty(6, 4, device="meta"), targets).shape == (6,)


@every_loss
def test_gradients_of_all_images_at_once(row):
    """The Fisher information maps the gradient of one image over a batch."""
    logits, targets = draw()
    loss = row.build(COUNTS["long tail"])
    mapped = torch.func.vmap(torch.func.grad(lambda z, t: loss(z[None], t[None])[0]))(logits, targets)
    (gradient,) = torch.autograd.grad(loss(logits.requires_grad_(), targets).sum(), logits)
    torch.testing.assert_close(mapped, gradient, rtol=1e-12, atol=1e-14)


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
