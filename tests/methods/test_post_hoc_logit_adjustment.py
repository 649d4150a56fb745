import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.methods.ce import CE
from forktail.methods.post_hoc_logit_adjustment import PostHocLogitAdjustment
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=32, lr=1e-2)


def test_its_stage_is_that_of_cross_entropy_and_trained_once(problem, make_engine, unseen, tmp_path):
    plain = CE().fit(problem, make_engine(PLAN, cache=tmp_path)).eval()
    engine = make_engine(PLAN, cache=tmp_path)
    adjusted = PostHocLogitAdjustment().fit(problem, engine).eval()
    assert '"found": true' in (engine.run.path / "timing.jsonl").read_text()
    torch.testing.assert_close(adjusted.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert adjusted.home == "uniform"
    torch.testing.assert_close(adjusted(unseen), plain(unseen), rtol=0, atol=0)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_it_predicts_by_the_outputs_less_tau_times_the_log_prior(problem, make_engine, unseen, tau):
    plain = CE().fit(problem, make_engine(PLAN)).eval()
    adjusted = PostHocLogitAdjustment(tau=tau).fit(problem, make_engine(PLAN)).eval()
    with torch.no_grad():
        outputs = plain.network(unseen).double().numpy()
        scores = (adjusted(unseen) + adjusted.log_weights(None)).numpy()
    counts = np.asarray(problem.counts.per_class, dtype=np.float64)
    np.testing.assert_allclose(scores, outputs - tau * np.log(counts / counts.sum()), rtol=1e-5, atol=1e-5)


def test_a_strength_leaves_the_stored_stage_as_it_was(problem, make_engine, unseen, tmp_path):
    """What is kept of training is cross-entropy's network, whatever is made of it afterwards."""
    PostHocLogitAdjustment(tau=2.0).fit(problem, make_engine(PLAN, cache=tmp_path))
    found = CE().fit(problem, make_engine(PLAN, cache=tmp_path)).eval()
    alone = CE().fit(problem, make_engine(PLAN)).eval()
    torch.testing.assert_close(found(unseen), alone(unseen), rtol=0, atol=0)


def test_a_negative_strength_is_refused():
    with pytest.raises(InputError, match=r"method\.tau = -1; expected a number >= 0"):
        PostHocLogitAdjustment(tau=-1)
