"""What is MAE's own; what it shares with LiVT is tested in test_masked_pretraining.py."""

import pytest
import torch

from forktail.errors import InputError
from forktail.methods.ce import CE
from forktail.methods.mae import MAE
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)


def test_fine_tuning_minimises_cross_entropy_of_smoothed_labels(plain, smoothed_loss, make_engine, logged):
    engine = make_engine(PLAN.for_epochs(1))
    MAE(pretraining_epochs=0, mixup=0.0, cutmix=0.0).fit(plain, engine)
    assert logged(engine) == pytest.approx([smoothed_loss], rel=1e-5)


def test_without_pretraining_mixing_and_decay_it_is_cross_entropy(plain, make_engine, unseen):
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
