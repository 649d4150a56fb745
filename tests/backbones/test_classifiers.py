import torch
from torch import nn

from forktail.backbones.classifiers import CosineClassifier, ScaledClassifier, linear_classifier


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_linear_classifier_comes_from_its_generator_and_leaves_the_global_one():
    before = torch.get_rng_state()
    first, second = (linear_classifier(64, 10, seeded()) for _ in range(2))
    torch.testing.assert_close(first.weight, second.weight, rtol=0, atol=0)
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    assert 0.008 < first.weight.std() < 0.012
    assert not first.bias.any()


def test_cosine_logits_are_scaled_cosines():
    classifier = CosineClassifier(5, 3, scale=30.0, generator=seeded()).double()
    features = torch.randn(4, 5, dtype=torch.float64)
    logits = classifier(features)
    for image in range(4):
        for c in range(3):
            x, w = features[image], classifier.weight[c]
            expected = 30 * sum(a * b for a, b in zip(x, w, strict=True)) / (x.norm() * w.norm())
            torch.testing.assert_close(logits[image, c], expected)


def test_cosine_logits_do_not_depend_on_lengths():
    classifier = CosineClassifier(5, 3, scale=30.0, generator=seeded())
    features = torch.randn(4, 5)
    before = classifier(features)
    with torch.no_grad():
        classifier.weight *= 7
    torch.testing.assert_close(classifier(3 * features), before)


def test_scaling_multiplies_the_bias_too_and_only_the_factors_can_be_trained_alone():
    inner = nn.Linear(4, 3)
    scaled = ScaledClassifier(inner)
    with torch.no_grad():
        scaled.factors.copy_(torch.tensor([1.0, 2.0, 0.5]))
    features = torch.randn(2, 4)
    torch.testing.assert_close(scaled(features), torch.tensor([1.0, 2.0, 0.5]) * inner(features))
    inner.requires_grad_(False)
    scaled(features).sum().backward()
    assert inner.weight.grad is None
    torch.testing.assert_close(scaled.factors.grad, inner(features).sum(0))
