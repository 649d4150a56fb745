"""What is LiVT's own; what it shares with MAE is tested in test_masked_pretraining.py."""

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods.balanced_bce import BalancedBCE
from forktail.methods.livt import LiVT
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)


def log_odds(problem):
    counts = np.asarray(problem.counts.per_class, dtype=np.float64)
    return np.log(counts / (counts.sum() - counts))


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_fine_tuning_minimises_balanced_bce_of_smoothed_labels(plain, first_logits, make_engine, logged, tau):
    """A hard target is smoothed to s / C elsewhere and 1 - s + s / C at the class."""
    logits = first_logits + tau * log_odds(plain)
    losses = []
    for row, label in zip(1 / (1 + np.exp(-logits)), plain.train.labels, strict=True):
        targets = [1 - 0.1 + 0.1 / 6 if c == label else 0.1 / 6 for c in range(6)]
        losses.append(-sum(t * np.log(p) + (1 - t) * np.log(1 - p) for t, p in zip(targets, row, strict=True)))
    engine = make_engine(PLAN.for_epochs(1))
    LiVT(pretraining_epochs=0, tau=tau, mixup=0.0, cutmix=0.0).fit(plain, engine)
    assert logged(engine) == pytest.approx([np.mean(losses)], rel=1e-5)


def test_without_pretraining_mixing_and_decay_it_is_balanced_bce(plain, make_engine, unseen):
    bare = LiVT(pretraining_epochs=0, mixup=0.0, cutmix=0.0, smoothing=0.0, layer_decay=1.0)
    tuned = bare.fit(plain, make_engine(PLAN)).eval()
    alone = BalancedBCE().fit(plain, make_engine(PLAN)).eval()
    torch.testing.assert_close(tuned(unseen), alone(unseen), rtol=1e-4, atol=1e-4)  # in another order


def test_by_default_it_predicts_as_its_authors_do_by_the_outputs_themselves(problem, make_engine, unseen):
    predictor = LiVT(pretraining_epochs=0).fit(problem, make_engine(PLAN)).eval()
    outputs = predictor.network(unseen)
    torch.testing.assert_close(predictor(unseen) + predictor.log_weights(None), outputs, rtol=0, atol=0)


def test_the_posterior_divides_the_training_probability_by_the_prior(problem, make_engine, unseen):
    predictor = LiVT(pretraining_epochs=0, tau=0.7, rule="posterior").fit(problem, make_engine(PLAN)).eval()
    with torch.no_grad():
        logits = predictor.network(unseen).double().numpy() + 0.7 * log_odds(problem)
        scores = predictor(unseen)
    expected = np.log(1 / (1 + np.exp(-logits)) / problem.counts.prior)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("tau", -1.0), ("pretraining_epochs", -1), ("mask_ratio", 1.0), ("layer_decay", 0.0), ("smoothing", 1.0)],
)
def test_a_hyper_parameter_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=rf"^method\.{name} = {value}; expected a "):
        LiVT(**{name: value})
