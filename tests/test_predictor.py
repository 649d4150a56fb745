import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from forktail.backbones.open import BackboneSpec
from forktail.data.augment import Preprocess
from forktail.errors import InputError
from forktail.predictor import ModelSpec, Predictor, load_weights, read_spec, save_predictor, uniform_scores

COUNTS = (90, 9, 1)


class Outputs(nn.Module):
    """A network whose outputs are three numbers of the picture."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, inputs):
        return self.scale * inputs[:, :, 0, 0]


def make(rule="posterior", home="uniform"):
    spec = ModelSpec(
        method="ce",
        options={},
        backbone=BackboneSpec("tiny", weights="random"),
        preprocess=Preprocess(4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        classes=("a", "b", "c"),
        counts=COUNTS,
        tasks=((0, 1), (2,)),
    )
    return Predictor(Outputs(), spec, rule=rule, home=home)


def gaussian_mixture_odds(rng, counts, num_points=2000):
    """Exact log densities of classes in the plane, and points drawn from them under a uniform prior."""
    means = rng.normal(size=(len(counts), 2)) * 1.5
    labels = np.arange(num_points) % len(counts)
    points = means[labels] + rng.normal(size=(num_points, 2))
    log_density = -0.5 * ((points[:, None] - means) ** 2).sum(-1)
    return log_density, labels


def test_the_posterior_rule_is_bayes_on_exact_outputs_and_the_margin_rule_is_not():
    """With exact outputs z = log p(c|x) - log(1 - p(c|x)) - logit pi, only `posterior` gives the uniform posterior."""
    rng = np.random.default_rng(0)
    prior = np.asarray(COUNTS) / sum(COUNTS)
    log_density, labels = gaussian_mixture_odds(rng, COUNTS)
    joint = log_density + np.log(prior)
    posterior = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
    z = np.log(posterior) - np.log1p(-posterior) - (np.log(prior) - np.log1p(-prior))
    log_prior = torch.from_numpy(np.log(prior))

    exact = uniform_scores(torch.from_numpy(z), log_prior, "posterior").softmax(1).numpy()
    bayes = np.exp(log_density - np.logaddexp.reduce(log_density, axis=1, keepdims=True))
    np.testing.assert_allclose(exact, bayes, rtol=1e-6, atol=1e-12)
    margin = uniform_scores(torch.from_numpy(z), log_prior, "margin").argmax(1).numpy()
    assert (margin == labels).mean() < (exact.argmax(1) == labels).mean()


def test_softmax_outputs_lose_their_prior_and_adjusted_ones_have_none():
    z, log_prior = torch.randn(5, 3), torch.tensor(COUNTS).div(100.0).log()
    torch.testing.assert_close(uniform_scores(z, log_prior, "softmax"), z - log_prior)
    torch.testing.assert_close(uniform_scores(z, log_prior, "adjusted"), z)


def test_scores_stay_finite_at_extreme_outputs():
    for value in (1e4, -1e4):
        assert torch.isfinite(make()(torch.full((1, 3, 4, 4), value))).all()


def test_a_prior_is_added_to_the_scores_and_the_home_prior_is_the_default():
    model = make("softmax", home="train")
    np.testing.assert_allclose(model.log_weights(None).exp(), np.asarray(COUNTS) / 100, rtol=1e-6)
    np.testing.assert_allclose(model.log_weights("uniform"), 0)
    np.testing.assert_allclose(model.log_weights([2, 1, 1]).exp(), [0.5, 0.25, 0.25], rtol=1e-6)


@pytest.mark.parametrize("prior", [[1.0, 1.0], [1.0, 0.0, 1.0], [1.0, float("nan"), 1.0], "even"])
def test_a_prior_that_does_not_fit_is_refused(prior):
    with pytest.raises(InputError, match="prior"):
        make().log_weights(prior)


def test_only_bernoulli_outputs_have_training_logits():
    outputs = torch.randn(2, 3)
    assert make("softmax").training_logits(outputs) is None
    prior = torch.tensor(COUNTS).div(100.0)
    torch.testing.assert_close(make("margin").training_logits(outputs), outputs + prior.log() - (1 - prior).log())


def test_a_path_a_picture_and_an_array_are_read_alike(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (4, 4, 4)).astype(np.uint8)
    picture = Image.fromarray(pixels, "RGBA")  # transparency is laid on white, however the picture comes
    picture.save(tmp_path / "a.png")
    by_path, by_picture = make().predict([tmp_path / "a.png", picture], top=3)
    assert by_path.picture == str(tmp_path / "a.png")
    assert by_path.probabilities == by_picture.probabilities
    with pytest.raises(InputError, match="float64"):
        make().predict([np.zeros((4, 4))])
    with pytest.raises(InputError, match=r"none\.png: cannot be read"):
        make().predict([tmp_path / "none.png"])


def test_predictions_come_in_order_with_probabilities_that_add_up():
    grey = np.full((4, 4), 128, np.uint8)
    found = make().predict([Image.new("RGB", (9, 5), "white"), grey], top=3)
    assert [p.picture for p in found] == ["0", "1"]
    assert sum(found[0].probabilities) == pytest.approx(1)
    assert list(found[0].probabilities) == sorted(found[0].probabilities, reverse=True)


def test_predicting_leaves_the_mode_as_it_was():
    model = make().train()
    model.predict([np.zeros((4, 4), np.uint8)])
    assert model.training


def test_a_model_survives_saving(tmp_path):
    model = make()
    save_predictor(tmp_path, model)
    assert read_spec(tmp_path) == model.spec
    again = make()
    with torch.no_grad():
        again.network.scale.zero_()
    load_weights(again, tmp_path)
    assert again.network.scale.item() == 2.0
    assert not again.training


@pytest.mark.parametrize("damage", ["missing", "json", "format", "key", "weights", "truncated"])
def test_a_damaged_model_is_one_clear_line(tmp_path, damage):
    save_predictor(tmp_path, make())
    path, weights = tmp_path / "model.json", tmp_path / "model.safetensors"
    facts = json.loads(path.read_text())
    if damage == "missing":
        path.unlink()
    elif damage == "json":
        path.write_text("{")
    elif damage == "format":
        path.write_text(json.dumps({**facts, "format": 99}))
    elif damage == "key":
        path.write_text(json.dumps({k: v for k, v in facts.items() if k != "classes"}))
    elif damage == "weights":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:20])

    def load():
        read_spec(tmp_path)
        load_weights(make(), tmp_path)

    with pytest.raises(InputError) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": ["many", "few", "none"]},
        {"counts": [90, 9]},
        {"counts": [90, 9, 0]},
        {"classes": ["a", "b"]},
        {"tasks": [[0, 1], [1]]},
        {"preprocess": {"size": 0, "mean": [0, 0, 0], "std": [1, 1, 1]}},
        {"preprocess": {"size": 4, "mean": [0, 0, 0], "std": [1, 0, 1]}},
        {"preprocess": {"size": 4, "mean": [0], "std": [1, 1, 1]}},
        {"backbone": {"name": "tiny", "drop_path": 2}},
        {"colour": "red"},
        {"options": []},
    ],
    ids=str,
)
def test_a_description_that_contradicts_itself_is_refused_with_its_file(tmp_path, changes):
    save_predictor(tmp_path, make())
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(InputError, match=r"model\.json: not a model description \(.*\); expected what"):
        read_spec(tmp_path)


def test_a_trained_model_asks_for_no_other_weights_whatever_its_description_says(tmp_path):
    save_predictor(tmp_path, make())
    path = tmp_path / "model.json"
    backbone = {"name": "vit_base_patch16_224.mae", "weights": None}
    path.write_text(json.dumps({**json.loads(path.read_text()), "backbone": backbone}))
    assert read_spec(tmp_path).backbone.weights == "random"


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = make()
    with torch.no_grad():
        model.network.scale.fill_(torch.nan)
    save_predictor(tmp_path, model)
    with pytest.raises(InputError, match=r"network\.scale holds numbers that are not finite"):
        load_weights(make(), tmp_path)


def test_counts_of_any_size_are_a_prior(tmp_path):
    np.testing.assert_allclose(make().log_weights([1e308, 1e308, 1e308]).exp(), 1 / 3, rtol=1e-6)
    with pytest.raises(InputError, match="int too large"):
        make().log_weights([10**400, 1, 1])
