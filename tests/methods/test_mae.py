"""What is MAE's own; what it shares with LiVT is tested in test_masked_pretraining.py."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods.ce import CE
from forktail.methods.mae import MAE
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)


def test_fine_tuning_minimises_cross_entropy_of_smoothed_labels(problem, make_engine):
    plain = dataclasses.replace(problem, train=problem.train.with_transform(problem.preprocess))
    inputs = torch.stack([plain.train[i] for i in range(len(plain.train))])
    with torch.no_grad():
        logits = plain.network()(inputs).double().numpy()
    losses = []
    for row, label in zip(logits, plain.train.labels, strict=True):
        log_p = row - np.log(np.exp(row).sum())
        losses.append(-sum((0.9 * (c == label) + 0.1 / 6) * log_p[c] for c in range(6)))
    engine = make_engine(PLAN.for_epochs(1))
    MAE(pretraining_epochs=0, mixup=0.0, cutmix=0.0).fit(plain, engine)
    assert json.loads((engine.run.path / "log.jsonl").read_text())["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_without_pretraining_mixing_and_decay_it_is_cross_entropy(problem, make_engine, unseen):
    plain = dataclasses.replace(problem, train=problem.train.with_transform(problem.preprocess))
    bare = MAE(pretraining_epochs=0, mixup=0.0, cutmix=0.0, smoothing=0.0, layer_decay=1.0)
    tuned = bare.fit(plain, make_engine(PLAN)).eval()
    ce = CE().fit(plain, make_engine(PLAN)).eval()
    torch.testing.assert_close(tuned.network(unseen), ce.network(unseen), rtol=1e-4, atol=1e-4)  # in another order


def test_it_predicts_under_the_training_prior_by_the_plain_outputs(problem, make_engine, unseen):
    predictor = MAE(pretraining_epochs=0).fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(predictor(unseen) + predictor.log_weights(None), predictor.network(unseen))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pretraining_epochs", -1), ("mask_ratio", 1.0), ("mask_ratio", 0.0), ("layer_decay", 0.0),
        ("layer_decay", 1.5), ("mixup", -1.0), ("cutmix", -1.0), ("smoothing", 1.0),
    ],
)  # fmt: skip
def test_a_hyper_parameter_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=rf"^method\.{name} = {value}; expected a "):
        MAE(**{name: value})
