import dataclasses

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods.ce import CE
from forktail.methods.tau_norm import TauNorm, balanced_accuracy, tau_normalised
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0, 2.0])
def test_weights_are_divided_by_a_power_of_their_norm(tau):
    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = [[float(w) / sum(float(v) ** 2 for v in row) ** (tau / 2) for w in row] for row in weight]
    torch.testing.assert_close(tau_normalised(weight, tau), torch.tensor(expected, dtype=torch.float64))


def test_tau_0_is_plain_training_without_its_bias(problem, make_engine, unseen):
    plain = CE().fit(problem, make_engine(PLAN)).eval().network
    found = TauNorm(tau=0.0).fit(problem, make_engine(PLAN)).eval().network
    torch.testing.assert_close(found(unseen), plain(unseen) - plain.classifier(0).bias)
    assert plain.classifier(0).bias.abs().min() > 0


def test_tau_1_gives_all_classes_one_length_on_the_scale_of_training(problem, make_engine):
    plain = CE().fit(problem, make_engine(PLAN)).network.classifier(0).weight
    found = TauNorm(tau=1.0).fit(problem, make_engine(PLAN)).network.classifier(0)
    lengths = plain.detach().double().norm(dim=1)
    expected = float(np.prod(lengths.numpy()) ** (1 / 6))
    torch.testing.assert_close(found.weight.norm(dim=1), torch.full((6,), expected))
    torch.testing.assert_close(found.weight / expected, tau_normalised(plain, 1.0))
    assert not found.bias.any()


def with_held_out(problem, labels):
    """Some of the training images as held-out ones."""
    places = [int(np.flatnonzero(problem.train.labels == c)[-1]) for c in labels]
    return dataclasses.replace(problem, val=problem.train.subset(places))


@pytest.fixture
def held_out(problem):
    return with_held_out(problem, range(6))


def test_tau_is_the_most_accurate_one_on_held_out_images(held_out, make_engine):
    engine = make_engine(PLAN)
    found = TauNorm(tau="validation").fit(held_out, engine)
    plain = CE().fit(held_out, make_engine(PLAN)).network.eval()
    inputs = torch.stack([held_out.val.with_transform(held_out.preprocess)[i] for i in range(6)])
    with torch.no_grad():
        features = plain.path(0)(inputs).double().numpy()
    weight = plain.classifier(0).weight.detach().double().numpy()
    best, chosen = -1.0, None
    for tenths in range(21):
        right = 0
        for x, label in zip(features, held_out.val.labels, strict=True):
            scores = [np.dot(w, x) / np.linalg.norm(w) ** (tenths / 10) for w in weight]
            right += int(np.argmax(scores) == label)
        if right > best:
            best, chosen = right, tenths / 10
    assert found.spec.structure == {"tau": chosen}
    assert [record["stage"] for record in engine.manifest] == ["training", "validation features"]
    assert engine.manifest[1]["flops"] > 0


def test_a_budget_pays_for_the_choice(held_out, make_engine):
    once = make_engine(PLAN)
    TauNorm(tau="validation").fit(held_out, once)
    engine = make_engine(dataclasses.replace(PLAN, flops=2 * once.flops))
    TauNorm(tau="validation").fit(held_out, engine)
    step = engine.manifest[0]["flops"] / engine.manifest[0]["steps"]
    assert 0 <= 2 * once.flops - engine.flops < step


def test_a_choice_without_held_out_images_of_every_class_is_refused_before_training(problem, make_engine):
    engine = make_engine(PLAN)
    with pytest.raises(InputError, match="of held-out images there are none"):
        TauNorm(tau="validation").fit(problem, engine)
    with pytest.raises(InputError, match="of held-out images class c has none"):
        TauNorm(tau="validation").fit(with_held_out(problem, [0, 1, 3, 4, 5]), engine)
    assert engine.manifest == []


def test_classes_count_alike_in_the_accuracy():
    """Three of four right in the first class, none in the second: (3/4 + 0) / 2."""
    scores = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] + [[1.0, 0.0]] * 2)
    assert balanced_accuracy(scores, torch.tensor([0, 0, 0, 0, 1, 1])).item() == 0.375


@pytest.mark.parametrize("tau", [-0.1, float("nan"), float("inf")])
def test_a_tau_that_is_none_is_refused(tau):
    with pytest.raises(InputError, match=r"method.tau = "):
        TauNorm(tau=tau)
