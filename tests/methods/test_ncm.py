import dataclasses

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods.ce import CE
from forktail.methods.ncm import NCM, NearestMean
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)


def reference(train, labels, rows, kind, scale):
    """Distances to the mean of each class, one pair at a time."""

    def seen(x, centre):
        x = x - centre if kind == "cl2n" else x
        return x if kind == "un" else x / np.sqrt(sum(v * v for v in x))

    centre = train.mean(0)
    scores = []
    for row in rows:
        scores.append([])
        for c in range(labels.max() + 1):
            members = [seen(x, centre) for x, label in zip(train, labels, strict=True) if label == c]
            mean = sum(members) / len(members)
            scores[-1].append(-scale * sum((a - b) ** 2 for a, b in zip(seen(row, centre), mean, strict=True)))
    return torch.tensor(scores)


@pytest.mark.parametrize("kind", ["cl2n", "l2n", "un"])
def test_scores_are_scaled_distances_to_the_means_of_classes(kind):
    random = np.random.default_rng(0)
    train, labels = random.normal(1, 2, (12, 4)), np.array([0] * 7 + [1] * 4 + [2])
    rows = random.normal(1, 2, (5, 4))
    means = NearestMean(4, 3, kind, scale=2.5).double()
    means.take(torch.from_numpy(train), torch.from_numpy(labels))
    torch.testing.assert_close(means(torch.from_numpy(rows)), reference(train, labels, rows, kind, 2.5))


def test_the_means_are_those_of_plain_features_of_unaugmented_images(problem, make_engine, unseen):
    backbone = CE().fit(problem, make_engine(PLAN)).network.path(0).eval()
    plain = problem.train.with_transform(problem.preprocess)
    with torch.no_grad():
        train = backbone(torch.stack([plain[i] for i in range(len(plain))])).double().numpy()
        rows = backbone(unseen).double().numpy()
    found = NCM().fit(problem, make_engine(PLAN)).eval()
    expected = reference(train, plain.labels, rows, "cl2n", 10.0).float()
    torch.testing.assert_close(found(unseen), expected, rtol=1e-4, atol=1e-4)


def test_the_means_of_directions_are_not_of_length_one(problem, make_engine):
    lengths = NCM().fit(problem, make_engine(PLAN)).network.classifier.means.norm(dim=1)
    alone = torch.from_numpy(problem.counts.per_class == 1)
    torch.testing.assert_close(lengths[alone], torch.ones(int(alone.sum())))
    assert (lengths[~alone] < 1).all()


def test_the_scale_moves_no_decision(problem, make_engine, unseen):
    one, other = (NCM(scale=scale).fit(problem, make_engine(PLAN)).eval()(unseen) for scale in (1.0, 30.0))
    torch.testing.assert_close(other, 30 * one)


def test_a_budget_pays_for_the_features(problem, make_engine):
    once = make_engine(PLAN)
    NCM().fit(problem, once)
    engine = make_engine(dataclasses.replace(PLAN, flops=2 * once.flops))
    NCM().fit(problem, engine)
    step = engine.manifest[0]["flops"] / engine.manifest[0]["steps"]
    assert 0 <= 2 * once.flops - engine.flops < step


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(InputError, match=r"method.scale = .*expected a number > 0"):
        NCM(scale=scale)
