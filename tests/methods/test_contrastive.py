import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forktail.losses.balanced_softmax import BalancedSoftmax
from forktail.methods._contrastive import UNFILLED, Queue, parametric_contrast, projector, smoothed_centres, two_views

COUNTS = [50, 10, 4]


def draw(anchors=4, keys=5, classes=3, dim=6):
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(anchors, classes, generator=generator, dtype=torch.float64)
    units = F.normalize(torch.randn(anchors + keys, dim, generator=generator, dtype=torch.float64))
    targets = torch.tensor([0, 0, 1, 2])[:anchors]
    key_targets = torch.tensor([0, 2, UNFILLED, 1, 0])[:keys]
    return z, units[:anchors], units[anchors:], targets, key_targets


def reference(s, q, k, y, key_y, *, alpha, beta, gamma, temperature, smooth):
    """The formula of the two papers, anchor by anchor and sample by sample."""
    losses = []
    num_classes = s.shape[1]
    for i in range(len(q)):
        samples = [(q[i] @ q[j] / temperature, y[j]) for j in range(len(q)) if j != i]
        samples += [(q[i] @ k[j] / temperature, key_y[j]) for j in range(len(k)) if key_y[j] >= 0]
        total = sum(math.exp(value) for value in s[i]) + gamma * sum(math.exp(r) for r, _ in samples)
        weights = [beta * (1 - smooth if c == y[i] else smooth / (num_classes - 1)) for c in range(num_classes)]
        same = [r for r, label in samples if label == y[i]]
        gained = sum(w * (value - math.log(total)) for w, value in zip(weights, s[i], strict=True))
        gained += alpha * sum(r - math.log(total) for r in same)
        losses.append(-gained / (beta + alpha * len(same)))
    return losses


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.05, "beta": 1.0, "gamma": 1.0, "temperature": 0.2, "smooth": 0.0},
        {"alpha": 0.4, "beta": 2.0, "gamma": 0.3, "temperature": 0.5, "smooth": 0.1},
        {"alpha": 0.0, "beta": 1.0, "gamma": 1.0, "temperature": 0.2, "smooth": 0.0},
        {"alpha": 0.2, "beta": 1.0, "gamma": 0.0, "temperature": 1.0, "smooth": 0.0},
    ],
    ids=["published", "weighed", "negatives only", "not in the sum"],
)
def test_the_loss_is_that_of_the_formula(options):
    drawn = draw()
    expected = reference(*(tensor.numpy() for tensor in drawn), **options)
    found = parametric_contrast(*drawn, **options)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_without_samples_it_is_balanced_softmax():
    z, *rest = draw()
    log_prior = torch.tensor(COUNTS, dtype=torch.float64).log() - math.log(sum(COUNTS))
    found = parametric_contrast(z + log_prior, *rest, alpha=0.0, gamma=0.0, temperature=0.05)
    torch.testing.assert_close(found, BalancedSoftmax(COUNTS)(z, rest[2]), rtol=1e-6, atol=1e-6)


def test_samples_that_only_stand_in_the_sum_make_every_loss_larger():
    drawn = draw()
    without = parametric_contrast(*drawn, alpha=0.0, gamma=0.0, temperature=0.5)
    found = parametric_contrast(*drawn, alpha=0.0, gamma=1.0, temperature=0.5)
    assert (found - without).min() > 0


def test_a_key_gets_no_gradient_where_samples_count_nothing():
    z, q, k, y, key_y = draw()
    k.requires_grad_()
    for alpha, gamma, counts in ((0.0, 0.0, False), (0.1, 0.0, True), (0.0, 1.0, True)):
        loss = parametric_contrast(z, q, k, y, key_y, alpha=alpha, gamma=gamma, temperature=0.2).sum()
        (slope,) = torch.autograd.grad(loss + 0 * k.sum(), k)
        assert bool(slope.abs().max() > 0) == counts
        assert slope[2].abs().max() == 0  # an empty place


def test_empty_places_are_as_if_they_were_not_there():
    z, q, k, y, key_y = draw()
    filled = key_y >= 0
    options = {"alpha": 0.1, "temperature": 0.2}
    torch.testing.assert_close(
        parametric_contrast(z, q, k, y, key_y, **options),
        parametric_contrast(z, q, k[filled], y, key_y[filled], **options),
        rtol=1e-12,
        atol=1e-12,
    )


def test_its_gradient_is_that_of_finite_differences():
    z, q, k, y, key_y = draw()
    for tensor in (z, q, k):
        tensor.requires_grad_()

    def loss(z, q, k):
        return parametric_contrast(z, q, k, y, key_y, alpha=0.3, gamma=0.7, temperature=0.5, smooth=0.1)

    assert torch.autograd.gradcheck(loss, (z, q, k))


def test_it_stays_finite_at_extreme_logits():
    _, q, k, y, key_y = draw()
    z = torch.tensor([[1e4, -1e4, 0.0]] * 4, dtype=torch.float32, requires_grad=True)
    loss = parametric_contrast(z, q.float(), k.float(), y, key_y, alpha=0.1, temperature=0.05)
    (slope,) = torch.autograd.grad(loss.sum(), z)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(slope).all()


def test_permuted_classes_give_the_same_losses():
    z, q, k, y, key_y = draw()
    moved = torch.tensor([2, 0, 1])  # class c becomes moved[c]
    again = torch.where(key_y >= 0, moved[key_y.clamp(min=0)], key_y)
    options = {"alpha": 0.1, "temperature": 0.2, "smooth": 0.2}
    torch.testing.assert_close(
        parametric_contrast(z[:, moved.argsort()], q, k, moved[y], again, **options),
        parametric_contrast(z, q, k, y, key_y, **options),
        rtol=1e-12,
        atol=1e-12,
    )


def test_centre_weights_sum_to_beta():
    weights = smoothed_centres(torch.tensor([0, 3]), torch.zeros(2, 5), beta=0.7, smooth=0.1)
    torch.testing.assert_close(weights.sum(1), torch.full((2,), 0.7))
    torch.testing.assert_close(weights[0], 0.7 * torch.tensor([0.9, 0.025, 0.025, 0.025, 0.025]))


def test_a_queue_forgets_the_oldest_first_and_goes_round():
    queue = Queue(length=5, dim=1)
    seen = []
    for first in range(0, 9, 3):
        labels = torch.arange(first, first + 3)
        queue.enqueue(labels[:, None].float(), labels)
        seen += labels.tolist()
        assert {label for label in queue.labels.tolist() if label != UNFILLED} == set(seen[-5:])
        filled = queue.labels >= 0
        torch.testing.assert_close(queue.features[filled, 0], queue.labels[filled].float())


def test_a_batch_larger_than_the_queue_leaves_its_end():
    queue = Queue(length=2, dim=1)
    queue.enqueue(torch.arange(5.0)[:, None], torch.arange(5))
    assert sorted(queue.labels.tolist()) == [3, 4]


def test_a_projector_is_drawn_from_its_generator_alone():
    before = torch.get_rng_state()
    first, again = (projector([4, 4, 2], torch.Generator().manual_seed(7), batch_norm=False) for _ in range(2))
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert first[0].weight.std() > 0.1


def test_two_views_are_two_augmentations_of_one_picture(problem):
    views = two_views(problem.train)
    torch.manual_seed(0)
    assert views[0].shape == (2, 3, 8, 8)
    assert any(not torch.equal(*views[i].unbind()) for i in range(8))
