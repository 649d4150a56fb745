import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from forktail.backbones.layered import Layered
from forktail.backbones.open import BackboneSpec
from forktail.errors import InputError
from forktail.methods._features import one_pass
from forktail.methods._logistic_regression import most_evaluations
from forktail.methods.linear_probe import LinearProbe, standardisation
from forktail.training.cost import inference_flops
from forktail.training.plan import Plan


class Listener:
    """Keeps all that the engine tells."""

    def __init__(self):
        self.notes, self.told = [], []

    def note(self, text):
        self.notes.append(text)

    def begin(self, stage, done, total):
        self.told.append([stage, total, done])

    def advance(self, step, loss=None):
        self.told[-1][2] = step

    def end(self, note):
        self.told[-1].append(note)


def features_one_by_one(problem):
    """(N, D) in float64: each picture alone through a backbone of its own."""
    backbone = problem.backbone().eval()
    with torch.no_grad():
        pictures = [problem.preprocess(problem.train.read(i)) for i in range(len(problem.train))]
        return np.array([backbone(picture[None])[0].double().numpy() for picture in pictures])


def test_without_adjustment_it_is_scikit_learns_on_standardised_features(problem, make_engine):
    features = features_one_by_one(problem)
    standardised = (features - features.mean(0)) / features.std(0)
    predictor = LinearProbe(tau=0.0, penalty=0.01).fit(problem, make_engine()).eval()
    labels = problem.train.labels
    theirs = LogisticRegression(C=1 / (len(labels) * 0.01), tol=1e-9, max_iter=10_000).fit(standardised, labels)
    with torch.no_grad():  # the classifier takes the features as they are
        outputs = predictor.network.classifier(0)(torch.from_numpy(features).float())
    np.testing.assert_allclose(
        outputs.log_softmax(1).numpy(), theirs.predict_log_proba(standardised), rtol=0, atol=2e-3
    )


def test_at_its_optimum_the_adjusted_probabilities_of_every_class_sum_to_its_images(problem, make_engine):
    """The derivative by the biases, which the prior enters and no penalty; seen through the whole network."""
    predictor = LinearProbe(tau=1.0).fit(problem, make_engine()).eval()
    inputs = torch.stack([problem.preprocess(problem.train.read(i)) for i in range(len(problem.train))])
    with torch.no_grad():
        outputs = predictor.network(inputs).double()
    probabilities = (outputs + torch.from_numpy(np.log(problem.counts.prior))).softmax(1)
    np.testing.assert_allclose(probabilities.sum(0).numpy(), problem.counts.per_class, rtol=0, atol=1e-3)


def test_the_adjustment_takes_the_prior_out_of_the_biases(problem, make_engine):
    engine = make_engine()
    plain, adjusted = (
        LinearProbe(tau=tau, penalty=0.1).fit(problem, engine).network.classifier(0) for tau in (0.0, 1.0)
    )
    torch.testing.assert_close(adjusted.weight, plain.weight, rtol=1e-3, atol=1e-3)
    moved = (plain.bias - adjusted.bias).detach().numpy()
    log_prior = np.log(problem.counts.prior)
    np.testing.assert_allclose(moved, log_prior - log_prior.mean(), rtol=0, atol=1e-3)


def test_its_outputs_are_scores_of_a_uniform_prior(problem, make_engine, unseen):
    predictor = LinearProbe().fit(problem, make_engine()).eval()
    torch.testing.assert_close(predictor(unseen), predictor.network(unseen), rtol=0, atol=0)
    torch.testing.assert_close(predictor.log_weights(None), torch.zeros(6), rtol=0, atol=0)
    assert predictor.training_logits(unseen) is None


def test_the_backbone_is_the_pretrained_one_and_frozen(problem, make_engine):
    network = LinearProbe().fit(problem, make_engine()).network
    backbone, start = network.path(0), problem.backbone().state_dict()
    for key, value in backbone.state_dict().items():
        torch.testing.assert_close(value, start[key], rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert all(parameter.requires_grad for parameter in network.classifier(0).parameters())


def test_neither_augmentation_nor_the_plan_changes_anything(problem, plain, make_engine, unseen):
    augmented = LinearProbe().fit(problem, make_engine(Plan(epochs=1, batch_size=3, lr=1.0))).eval()
    torch.testing.assert_close(
        LinearProbe().fit(plain, make_engine()).eval()(unseen), augmented(unseen), rtol=0, atol=0
    )


def test_the_images_pass_the_backbone_once_for_all_penalties(problem, make_engine, unseen):
    engine = make_engine(progress=(listener := Listener()))
    weak, strong = (LinearProbe(penalty=penalty).fit(problem, engine).eval() for penalty in (1e-3, 1.0))
    assert [stage for stage, *_ in listener.told] == ["features", "classifier", "classifier"]
    assert listener.told[0] == ["features", 32, 32, "32 images"]
    assert not torch.equal(weak(unseen), strong(unseen))
    assert [record["stage"] for record in engine.manifest] == ["features", "classifier", "classifier"]  # each once


def test_its_stages_cost_a_forward_pass_and_the_evaluations_that_were_made(problem, make_engine):
    engine = make_engine(progress=(listener := Listener()))
    LinearProbe(max_iterations=40).fit(problem, engine)
    evaluations = int(listener.told[1][-1].split()[0])
    assert 1 < evaluations <= most_evaluations(40)
    assert {record["stage"]: record["flops"] for record in engine.manifest} == {
        "features": 32 * inference_flops(problem.backbone(), (3, 8, 8)),
        "classifier": evaluations * 4 * 32 * 5 * 6,
    }


def test_a_budget_that_does_not_suffice_is_refused_before_anything_is_computed(problem, make_engine, unseen):
    free = make_engine()
    expected = LinearProbe().fit(problem, free).eval()
    features, solution = (record["flops"] for record in free.manifest)
    bound = features + most_evaluations(LinearProbe().max_iterations) * 4 * 32 * 5 * 6
    assert solution < bound - features
    within = LinearProbe().fit(problem, make_engine(Plan(flops=bound))).eval()
    torch.testing.assert_close(within(unseen), expected(unseen), rtol=0, atol=0)
    engine = make_engine(Plan(flops=0.99 * bound))
    with pytest.raises(InputError, match=r"plan\.flops = .*; expected at least .*, for one pass over the images"):
        LinearProbe().fit(problem, engine)
    assert engine.manifest == []


def test_it_notes_random_weights_and_an_optimum_that_was_not_reached(problem, make_engine):
    engine = make_engine(progress=(listener := Listener()))
    LinearProbe().fit(problem, engine)
    assert listener.notes == ["the backbone's weights are random: the probe reads random features"]
    pretrained = dataclasses.replace(problem, backbone_spec=BackboneSpec("tiny"))
    for _ in range(2):  # computed, then found
        listener.notes.clear()
        LinearProbe(max_iterations=1).fit(pretrained, engine)
        (note,) = listener.notes
        assert "raise method.max_iterations (now 1) or method.penalty (now 0.0005)" in note


@pytest.mark.parametrize(
    ("spec", "random"),
    [
        (BackboneSpec("tiny"), False),
        (BackboneSpec("tiny", weights="embedded"), False),
        (BackboneSpec("tiny", weights="random"), True),
        (BackboneSpec("vit_base_patch16_224"), True),
        (BackboneSpec("vit_base_patch16_224", weights="mae.pth"), False),
        (BackboneSpec("vit_base_patch16_224.mae"), False),
        (BackboneSpec("vit_base_patch16_224.mae", weights="random"), True),
        (BackboneSpec("hf-hub:timm/vit"), False),
        (BackboneSpec(weights="encoder.safetensors"), False),
    ],
)
def test_weights_are_random_where_nothing_brings_others(spec, random):
    assert spec.has_random_weights == random


def test_a_constant_feature_is_not_blown_up():
    """Float32 leaves 0.1 with a spread of its last digit; a rare feature is small but real."""
    noise = 0.1 + 1e-9 * torch.tensor([0.0, 1.0, -1.0, 0.0], dtype=torch.float64)
    rare = torch.tensor([0.0, 0.0, 0.0, 1e-8], dtype=torch.float64)
    dead = torch.zeros(4, dtype=torch.float64)
    mean, scale = standardisation(torch.stack([noise, rare, dead], dim=1))
    np.testing.assert_allclose(mean.numpy(), [0.1, 2.5e-9, 0])
    np.testing.assert_allclose(scale.numpy(), [1, np.sqrt(3) / 4 * 1e-8, 1])


def test_features_that_are_not_finite_name_the_picture(problem, make_engine):
    broken = Layered(nn.Flatten(), [nn.Linear(192, 2)], nn.Identity(), num_features=2)
    nn.init.constant_(broken.units[0].bias, float("nan"))
    images = problem.train.with_transform(problem.preprocess)
    with pytest.raises(InputError, match=r"pictures\[0\]: the backbone's features are not finite; expected finite"):
        one_pass(broken, images, make_engine())


@pytest.mark.parametrize(
    ("field", "value"),
    [("tau", -1.0), ("tau", float("nan")), ("penalty", 0.0), ("penalty", float("inf")), ("max_iterations", 0)],
)
def test_values_without_a_meaning_are_refused(field, value):
    with pytest.raises(InputError, match=rf"method\.{field} = .*; expected"):
        LinearProbe(**{field: value})
