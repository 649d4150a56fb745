import dataclasses

import numpy as np
import pytest
import torch

from forktail.data.augment import Augment
from forktail.errors import InputError
from forktail.labels import ClassCounts
from forktail.methods import find_method, sade
from forktail.methods.sade import SADE, Aggregated, SkillDiverse, agreement, expert_offsets, reversed_prior
from forktail.training.objective import Batch
from forktail.training.plan import Plan

COUNTS = ClassCounts(np.array([3, 12, 1, 8, 2, 6]))


class Recorded(torch.nn.Module):
    """Experts whose logits are given."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def expert_logits(self, inputs):
        return self.logits


def batch(targets):
    return Batch(torch.zeros(len(targets), 1), targets, torch.arange(len(targets)), 0.0, torch.Generator())


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cross_entropy(row, target):
    return np.log(np.exp(row).sum()) - row[target]


def losses(logits, targets, offsets):
    return SkillDiverse(Recorded(logits), offsets)(batch(targets))


def test_the_reversed_prior_of_sorted_counts_is_the_flipped_vector():
    counts = ClassCounts(np.array([50, 30, 15, 5]))
    np.testing.assert_array_equal(reversed_prior(counts), counts.prior[::-1])


def test_the_largest_prior_goes_to_the_rarest_class_in_any_order():
    np.testing.assert_allclose(reversed_prior(COUNTS) * 32, [6, 1, 12, 2, 8, 3], rtol=1e-12)


def test_ties_are_ranked_by_the_class_index():
    np.testing.assert_allclose(reversed_prior(ClassCounts(np.array([1, 5, 5]))) * 11, [5, 1, 5], rtol=1e-12)
    np.testing.assert_allclose(reversed_prior(ClassCounts(np.array([5, 5, 1]))) * 11, [1, 5, 5], rtol=1e-12)


def test_the_loss_is_that_of_a_slow_loop():
    logits, targets, tau = drawn(3, 5, 6), torch.tensor([0, 5, 2, 1, 1]), 2.0
    prior, turned = COUNTS.prior, np.array([6, 1, 12, 2, 8, 3]) / 32
    expected = []
    for image, target in enumerate(targets.tolist()):
        first, second, third = logits[:, image].numpy()
        expected.append(
            cross_entropy(first, target)
            + cross_entropy(second + np.log(prior), target)
            + cross_entropy(third + np.log(prior) - tau * np.log(turned), target)
        )
    found = losses(logits, targets, expert_offsets(COUNTS, tau).double())
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-6)


def test_soft_targets_weigh_the_losses_of_their_classes():
    logits, offsets = drawn(3, 1, 6), expert_offsets(COUNTS, 2.0)
    soft = torch.tensor([[0.25, 0, 0, 0.75, 0, 0]])
    apart = [losses(logits, torch.tensor([c]), offsets) for c in (0, 3)]
    torch.testing.assert_close(losses(logits, soft, offsets), 0.25 * apart[0] + 0.75 * apart[1])


def test_at_tau_0_the_third_expert_trains_like_the_second():
    offsets = expert_offsets(COUNTS, 0.0)
    torch.testing.assert_close(offsets[2], offsets[1], rtol=0, atol=0)
    assert not torch.equal(expert_offsets(COUNTS, 1.0)[2], offsets[1])


def test_equal_counts_leave_three_plain_cross_entropies():
    logits, targets = drawn(3, 4, 6), torch.tensor([0, 1, 2, 5])
    found = losses(logits, targets, expert_offsets(ClassCounts(np.full(6, 7)), 2.0).double())
    expected = [
        sum(cross_entropy(logits[k, i].numpy(), int(target)) for k in range(3)) for i, target in enumerate(targets)
    ]
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    logits, targets = drawn(3, 2, 6).requires_grad_(), torch.tensor([2, 4])
    offsets = expert_offsets(COUNTS, 2.0).double()
    loss = sade.CrossEntropy()
    assert torch.autograd.gradcheck(
        lambda v: torch.stack([loss(row, targets) for row in v + offsets[:, None]]).sum(0), (logits,)
    )
    objective = SkillDiverse(Recorded(logits.detach()), offsets)
    objective(batch(targets)).sum().backward()
    (expected,) = torch.autograd.grad(
        torch.stack([loss(row, targets) for row in logits + offsets[:, None]]).sum(), [logits]
    )
    torch.testing.assert_close(objective.network.logits.grad, expected)


# --- test-time aggregation -------------------------------------------------------------------------------------------


def test_agreement_is_that_of_a_slow_loop():
    w, first, second = drawn(3, seed=1), drawn(3, 4, 5, seed=2), drawn(3, 4, 5, seed=3)
    a = np.exp(w.numpy()) / np.exp(w.numpy()).sum()
    cosines = []
    for image in range(4):
        mixed = [sum(a[k] * view[k, image].numpy() for k in range(3)) for view in (first, second)]
        p, q = (np.exp(row) / np.exp(row).sum() for row in mixed)
        cosines.append(p @ q / np.sqrt((p @ p) * (q @ q)))
    np.testing.assert_allclose(agreement(w, first, second), np.mean(cosines), rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x: agreement(x, first, second), (w.requires_grad_(),))


@pytest.fixture(scope="module")
def fitted(problem, make_engine):
    return SADE().fit(problem, make_engine(Plan(epochs=2, batch_size=8, lr=1e-2)))


@pytest.fixture
def unlabelled(problem):
    return problem.train.with_transform(Augment(problem.preprocess, "shift"))


def test_the_mean_of_the_experts_is_the_weighted_mean_of_equal_weights(fitted, unseen):
    experts = fitted.network
    torch.testing.assert_close(Aggregated(experts, torch.full((3,), 1 / 3))(unseen), experts(unseen))
    alone = Aggregated(experts, torch.tensor([0.0, 1.0, 0.0]))
    torch.testing.assert_close(alone(unseen), experts.expert_logits(unseen)[1])


def test_adapting_repeats_and_leaves_the_model_as_it_was(fitted, unlabelled, unseen):
    before = {key: value.clone() for key, value in fitted.state_dict().items()}
    chance = torch.get_rng_state()
    adapted = [SADE().adapt(fitted, unlabelled, seed) for seed in (0, 0, 1)]
    torch.testing.assert_close(torch.get_rng_state(), chance, rtol=0, atol=0)
    for key, value in fitted.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    torch.testing.assert_close(adapted[0](unseen), adapted[1](unseen), rtol=0, atol=0)
    assert not torch.equal(adapted[0].network.weights, adapted[2].network.weights)
    assert not torch.equal(adapted[0].network.weights, torch.full((3,), 1 / 3))
    torch.testing.assert_close(adapted[0].network.weights.sum(), torch.tensor(1.0))
    assert (adapted[0].rule, adapted[0].home) == (fitted.rule, fitted.home)


def test_adapting_does_not_look_at_labels(fitted, unlabelled, unseen):
    blind = dataclasses.replace(unlabelled, labels=np.zeros_like(unlabelled.labels))
    torch.testing.assert_close(
        SADE().adapt(fitted, blind, 0)(unseen), SADE().adapt(fitted, unlabelled, 0)(unseen), rtol=0, atol=0
    )


def test_every_epoch_shows_every_image_those_of_a_last_small_batch_too(problem, monkeypatch):
    monkeypatch.setattr(sade, "ADAPTATION_BATCH", 10)
    images = problem.train.with_transform(problem.preprocess)
    shown = []

    class Watched:
        def expert_logits(self, inputs):
            shown.append(inputs)
            return inputs.new_zeros(3, len(inputs), 6)

    drawn_views = list(sade.two_views(Watched(), images, 2, 0, torch.device("cpu")))
    assert [first.shape[1] for first, _ in drawn_views] == [10, 10, 10, 2] * 2
    everything = torch.stack([images[i] for i in range(len(images))]).flatten(1)
    for epoch in (torch.cat(shown[first : first + 8 : 2]).flatten(1) for first in (0, 8)):
        torch.testing.assert_close(epoch.sort(0).values, everything.sort(0).values, rtol=0, atol=0)
        assert not torch.equal(epoch, everything)  # in an order of its own


def test_adapting_learns_from_the_last_small_batch(fitted, unlabelled, monkeypatch):
    monkeypatch.setattr(sade, "ADAPTATION_BATCH", 31)
    pulled, views = [], sade.two_views

    def watched(*given):
        for first, second in views(*given):
            pulled.append(first.shape[1])
            yield first, second

    monkeypatch.setattr(sade, "two_views", watched)
    SADE(adaptation_epochs=2).adapt(fitted, unlabelled, 0)
    assert pulled == [31, 1] * 2


def weights_by_hand(views, lr):
    """SGD with momentum 0.9 (Nesterov) and weight decay 5e-4, written out; gradients by central differences."""
    w, velocity = np.full(3, 1 / 3), None
    for first, second in views:
        gradient = np.zeros(3)
        for k in range(3):
            step = np.eye(3)[k] * 1e-5
            ends = [-float(agreement(torch.tensor(w + sign * step), first, second)) for sign in (1, -1)]
            gradient[k] = (ends[0] - ends[1]) / 2e-5
        gradient += 5e-4 * w
        velocity = gradient if velocity is None else 0.9 * velocity + gradient
        w = w - lr * (gradient + 0.9 * velocity)
    return np.exp(w) / np.exp(w).sum()


def test_the_weights_are_those_of_sgd_written_out(fitted, unlabelled, monkeypatch):
    views = [(3 * drawn(3, 8, 6, seed=2 * i), 3 * drawn(3, 8, 6, seed=2 * i + 1)) for i in range(5)]
    monkeypatch.setattr(sade, "two_views", lambda *_: ((a.float(), b.float()) for a, b in views))
    adapted = SADE(adaptation_lr=0.5).adapt(fitted, unlabelled, 0)
    np.testing.assert_allclose(adapted.network.weights, weights_by_hand(views, 0.5), atol=1e-4)
    assert np.ptp(adapted.network.weights.numpy()) > 0.01


def test_the_steady_expert_gains_and_it_ends_before_another_is_lost(fitted, unlabelled, monkeypatch):
    """Expert 1 says the same of both views, the others anything."""
    steady = 5 * drawn(8, 6, seed=9)
    pulled = []

    def views(*_):
        for number in range(50):
            pulled.append(number)
            pair = [5 * drawn(3, 8, 6, seed=number + shift).float() for shift in (100, 200)]
            for view in pair:
                view[1] = steady
            yield tuple(pair)

    monkeypatch.setattr(sade, "two_views", views)
    weights = SADE(adaptation_epochs=50, adaptation_lr=3.0).adapt(fitted, unlabelled, 0).network.weights
    assert weights.argmax() == 1
    assert weights.min() < 0.05
    assert 1 <= len(pulled) < 50


@pytest.mark.parametrize(
    "field", ["tau=-1", "s=0", "shared_units=0", "adaptation_epochs=0", "adaptation_lr=0", "tau=nan"]
)
def test_hyper_parameters_out_of_range_are_named(field):
    name, value = field.split("=")
    with pytest.raises(InputError, match=f"method.{name} = "):
        find_method("sade")(**{name: float(value)})
