"""Metrics of a model on a set, against what is computed picture by picture."""

import numpy as np
import pytest
import torch
from torch import nn

from forktail.backbones.open import BackboneSpec
from forktail.data.augment import Augment, Preprocess
from forktail.data.images import ArrayPictures, Images
from forktail.evaluation import evaluate, score_images
from forktail.predictor import ModelSpec, Predictor

COUNTS = (200, 50, 5)
PREPROCESS = Preprocess(4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Outputs(nn.Module):
    """Reads three numbers off the picture; dropout and batch statistics would show in training mode."""

    def __init__(self):
        super().__init__()
        self.noise = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3, affine=False))

    def forward(self, inputs):
        return self.noise(inputs[:, :, 0, 0] * 2)


def make(rule="posterior", home="uniform"):
    spec = ModelSpec("osdtw", {}, BackboneSpec("tiny", weights="random"), PREPROCESS, ("a", "b", "c"), COUNTS,
                     ((0, 1), (2,)))  # fmt: skip
    return Predictor(Outputs(), spec, rule=rule, home=home)


@pytest.fixture(scope="module")
def images():
    """More than one batch of 256, with class 2 in 40 of 300 pictures."""
    random = np.random.RandomState(0)
    labels = np.repeat([0, 1, 2], [140, 120, 40])
    pixels = random.randint(0, 256, (300, 4, 4, 3))
    for picture, label in zip(pixels, labels, strict=True):
        picture[..., label] = np.minimum(255, picture[..., label] + 60)
    return Images.ordered(ArrayPictures(pixels.astype(np.uint8)), labels, ("a", "b", "c"))


def outputs_of(images):
    """2 (level / 127.5 - 1) of the first pixel, through batch statistics that never saw anything."""
    levels = np.array([np.asarray(images.read(i))[0, 0] for i in range(len(images))], np.float64)
    return 2 * (levels / 127.5 - 1) / np.sqrt(1 + 1e-5)


def reference_scores(outputs, rule, prior):
    pi = np.array(COUNTS) / sum(COUNTS)
    odds = outputs + np.log(pi / (1 - pi))
    scores = {"posterior": -np.log1p(np.exp(-odds)) - np.log(pi), "softmax": outputs - np.log(pi)}.get(rule, outputs)
    return scores + np.log(prior)


@pytest.mark.parametrize("rule", ["softmax", "adjusted", "margin", "posterior"])
@pytest.mark.parametrize("prior", ["uniform", "train", [1, 2, 5], None])
def test_scores_are_those_of_every_picture_under_the_prior(images, rule, prior):
    home = "train" if rule == "softmax" else "uniform"
    scores, logits = score_images(make(rule, home), images, prior=prior)
    pi = np.array(COUNTS) / sum(COUNTS)
    asked = (
        {"uniform": np.ones(3), "train": pi}.get(prior or home) if not isinstance(prior, list) else np.array(prior) / 8
    )
    np.testing.assert_allclose(scores, reference_scores(outputs_of(images), rule, asked), rtol=1e-4, atol=1e-4)
    if rule in ("margin", "posterior"):
        np.testing.assert_allclose(logits, outputs_of(images) + np.log(pi / (1 - pi)), rtol=1e-4, atol=1e-4)
    else:
        assert logits is None
    assert scores.dtype == np.float64


def test_the_model_is_in_evaluation_mode_and_learns_nothing(images):
    model = make().train()
    before = model.network.noise[1].running_mean.clone()
    first, again = (score_images(model, images)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    torch.testing.assert_close(model.network.noise[1].running_mean, before, rtol=0, atol=0)


def test_the_models_own_preprocessing_is_used_and_not_that_of_the_set(images):
    plain = score_images(make(), images)[0]
    shifted = score_images(make(), images.with_transform(Augment(PREPROCESS, "shift")))[0]
    np.testing.assert_array_equal(plain, shifted)


def test_metrics_are_those_of_the_scores(images):
    found = evaluate(make(), images, on="a set")
    scores = reference_scores(outputs_of(images), "posterior", np.ones(3))
    hit = scores.argmax(1) == images.labels
    per_class = [hit[images.labels == c].mean() for c in range(3)]
    assert found["accuracy"]["balanced"] == pytest.approx(np.mean(per_class))
    assert found["accuracy"]["micro"] == pytest.approx(hit.mean())
    assert found["accuracy"]["worst"] == pytest.approx(min(per_class))
    assert (found["accuracy"]["many"], found["accuracy"]["medium"], found["accuracy"]["few"]) == pytest.approx(
        per_class
    )
    assert found["accuracy"]["head"] == pytest.approx(np.mean(per_class[:2]))
    assert found["accuracy"]["tail"] == pytest.approx(per_class[2])
    losses = np.log(np.exp(scores).sum(1)) - scores[np.arange(300), images.labels]
    assert found["nll"] == pytest.approx(np.mean([losses[images.labels == c].mean() for c in range(3)]), rel=1e-5)
    assert found["evaluated_on"] == "a set"


def test_the_risk_is_the_summed_bernoulli_loss_and_no_prior_changes_it(images):
    pi = np.array(COUNTS) / sum(COUNTS)
    p = 1 / (1 + np.exp(-(outputs_of(images) + np.log(pi / (1 - pi)))))
    losses = [
        -sum(np.log(p[i, c]) if c == label else np.log(1 - p[i, c]) for c in range(3))
        for i, label in enumerate(images.labels)
    ]
    expected = sum(pi[c] * np.mean([x for x, y in zip(losses, images.labels, strict=True) if y == c]) for c in range(3))
    for prior in ("uniform", "train"):
        assert evaluate(make(), images, on="x", prior=prior)["risk"] == pytest.approx(expected, rel=1e-4)
    assert evaluate(make("softmax"), images, on="x")["risk"] is None


def test_the_shot_rule_is_the_one_that_was_asked_for(images):
    found = {rule: evaluate(make(), images, on="x", shots=rule)["groups"]["edges"] for rule in ("A", "quantile")}
    assert found["A"] != found["quantile"]


def test_a_class_without_test_images_counts_nowhere(images):
    found = evaluate(make(), images.subset(images.labels < 2), on="x")
    assert found["accuracy"]["few"] is None
    assert found["accuracy"]["balanced"] == pytest.approx((found["accuracy"]["many"] + found["accuracy"]["medium"]) / 2)
