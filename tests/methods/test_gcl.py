import dataclasses
import math

import numpy as np
import pytest
import torch

from forktail.data.sampling import Weighted
from forktail.errors import InputError
from forktail.labels import ClassCounts
from forktail.losses.focal import Focal
from forktail.methods.gcl import GCL, cloud_sizes, clouded_loss, half_normal_noise
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.objective import Batch
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)
COUNTS = [200, 50, 3]


@pytest.fixture
def drawn():
    """(5, 3) scaled cosines, and what the noise takes off them, in double precision."""
    random = torch.Generator().manual_seed(0)
    logits, lowered = (torch.randn(5, 3, generator=random, dtype=torch.float64) for _ in range(2))
    return 3 * logits, lowered.abs()


def reference(logits, label, noise, s, kappa, m, gamma):
    """Loss of one image and one class from cosines; the modulator counts as a number."""
    deltas = [math.log(max(COUNTS)) - math.log(n) for n in COUNTS]
    z = []
    for c in range(3):
        cosine = logits[c] / s - kappa * noise[c] * deltas[c] / max(deltas) - (m if c == label else 0)
        z.append(s * cosine)
    p = math.exp(z[label]) / sum(math.exp(v) for v in z)
    return (1 - p) ** gamma * -math.log(p)


@pytest.mark.parametrize(("s", "kappa", "m", "gamma"), [(30, 0.5, 0.0, 0.0), (20, 0.5, 0.1, 1.0), (5, 1.0, 0.4, 2.0)])
def test_the_loss_is_that_of_clouded_cosines(drawn, s, kappa, m, gamma):
    logits, noise = drawn[0], half_normal_noise((5, 3), torch.Generator().manual_seed(1)).double()
    soft = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.3, 0.7, 0], [0.2, 0.3, 0.5]], dtype=torch.float64)
    sizes = cloud_sizes(ClassCounts(np.array(COUNTS))).double()
    found = clouded_loss(logits, soft, s * kappa * sizes * noise, margin=s * m, gamma=gamma)
    expected = [
        sum(float(t[c]) * reference(z.tolist(), c, xi.tolist(), s, kappa, m, gamma) for c in range(3))
        for z, t, xi in zip(logits, soft, noise, strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_without_noise_and_margin_it_is_cross_entropy_or_the_focal_loss(drawn):
    logits, targets = drawn[0], torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1]]
    plain = clouded_loss(logits, targets, torch.zeros(5, 3), margin=0.0, gamma=0.0)
    torch.testing.assert_close(plain, torch.nn.functional.cross_entropy(logits, targets, reduction="none"))
    focal = clouded_loss(logits, targets, torch.zeros(5, 3), margin=0.0, gamma=1.0)
    torch.testing.assert_close(focal, Focal(gamma=1.0, through=False)(logits, targets))


def test_its_gradient_is_that_of_finite_differences(drawn):
    logits, lowered = drawn
    targets = torch.tensor([[0.3, 0.7, 0.0]], dtype=torch.float64).expand(5, 3)
    assert torch.autograd.gradcheck(
        lambda z: clouded_loss(z, targets, lowered, margin=0.5, gamma=0.0), [logits.requires_grad_()]
    )


def test_the_modulator_is_a_constant_for_the_gradient(drawn):
    logits, lowered = drawn[0].requires_grad_(), drawn[1]
    targets = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1]]

    def gradient(gamma):
        loss = clouded_loss(logits, targets, lowered, margin=0.5, gamma=gamma)
        return loss.detach(), torch.autograd.grad(loss.sum(), logits)[0]

    plain, slope = gradient(0.0)
    _, found = gradient(2.0)
    torch.testing.assert_close(found, (1 - (-plain).exp()).square().unsqueeze(1) * slope)


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    targets = torch.eye(3)[[0, 0]]
    losses = clouded_loss(logits, targets, torch.zeros(2, 3), margin=2.0, gamma=1.0)
    losses.sum().backward()
    torch.testing.assert_close(losses.detach(), torch.tensor([0.0, 2e4 + 2]))
    assert torch.isfinite(logits.grad).all()


def test_the_most_frequent_class_has_no_cloud_and_equal_classes_have_none():
    sizes = cloud_sizes(ClassCounts(np.array([10, 1_000_000, 1])))
    expected = [(6 - 1) / 6, 0.0, 1.0]
    torch.testing.assert_close(sizes, torch.tensor(expected))
    torch.testing.assert_close(cloud_sizes(ClassCounts(np.array([5, 5, 5]))), torch.zeros(3), rtol=0, atol=0)


def test_noise_is_half_normal_and_cut_off():
    """E|xi| = sigma sqrt(2 / pi), and P(|xi| > 1) = 0.27 % of a normal variable with sigma 1/3."""
    noise = half_normal_noise((50_000, 2), torch.Generator().manual_seed(0))
    assert noise.mean().item() == pytest.approx(math.sqrt(2 / math.pi) / 3, abs=3e-3)
    assert (noise == 1).double().mean().item() == pytest.approx(0.0027, abs=6e-4)
    torch.testing.assert_close(half_normal_noise((50_000, 2), torch.Generator().manual_seed(0)), noise, rtol=0, atol=0)


def test_the_objective_lowers_rare_classes_by_the_noise_of_its_generator(problem):
    method = GCL(noise_mul=0.7, s=11.0, m=0.2)
    objective = method._features(problem)
    inputs = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    targets = torch.tensor([0, 1, 2, 3])
    batch = Batch(inputs, targets, targets, 0.0, torch.Generator().manual_seed(9))
    noise = half_normal_noise((4, 6), torch.Generator().manual_seed(9))
    logits = objective.network(inputs)
    lowered = 11.0 * 0.7 * cloud_sizes(problem.counts) * noise
    expected = clouded_loss(logits, torch.eye(6)[targets], lowered, margin=11.0 * 0.2, gamma=0.0)
    torch.testing.assert_close(objective(batch), expected)
    assert (lowered[:, problem.counts.per_class.argmax()] == 0).all()


class Noting(Engine):
    """An engine that remembers the settings and the state of what it trains."""

    def train(self, stage, objective, images, plan=None, *sampler):
        begin = {name: value.clone() for name, value in objective.network.state_dict().items()}
        facts = objective.margin, objective.gamma, objective.network.classifier.scale
        trained = super().train(stage, objective, images, plan, *sampler)
        end = {name: value.clone() for name, value in trained.network.state_dict().items()}
        self.seen[stage] = plan, sampler, facts, begin, end
        return trained


def test_the_second_stage_has_a_fresh_classifier_on_frozen_features(problem, make_engine):
    engine = Noting(make_engine().run, dataclasses.replace(PLAN, epochs=20, batch_size=32, mix=Mix(cutmix=1.0)))
    engine.seen = {}
    predictor = GCL().fit(problem, engine)
    first, first_sampler, facts, _, end = engine.seen["training"]
    second, sampler, later_facts, begin, last = engine.seen["classifier"]
    assert (facts, later_facts) == ((0.0, 0.0, 30.0), (2.0, 1.0, 20.0))
    assert (first.epochs, first.mix, first_sampler) == (20, Mix(mixup=1.0), ())
    assert (second.epochs, second.mix, sampler) == (20, Mix(mixup=1.0), (Weighted("balanced"),))
    for name, value in last.items():
        backbone = name.startswith("backbone.")
        assert torch.equal(begin[name], end[name]) == backbone, name
        assert torch.equal(value, end[name]) == backbone, name
    assert predictor(torch.zeros(1, 3, 8, 8)).abs().max() <= 20.0 + 1e-4


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [("noise_mul", -1.0, ">= 0"), ("m", -0.1, ">= 0"), ("classifier_m", -0.1, ">= 0"), ("gamma", -1.0, ">= 0"),
     ("mixup", -1.0, ">= 0"), ("s", 0.0, "> 0"), ("classifier_s", float("inf"), "> 0")],
)  # fmt: skip
def test_a_field_out_of_range_is_refused(field, value, expected):
    with pytest.raises(InputError, match=f"method.{field} = {value}; expected a number {expected}"):
        GCL(**{field: value})
