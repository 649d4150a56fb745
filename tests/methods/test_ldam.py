import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forktail.errors import InputError
from forktail.losses.ldam import LDAM as PublishedLoss  # noqa: N811 - a name of its own, no constant
from forktail.methods.ldam import LDAM
from forktail.training.plan import Plan

PLAN = Plan(epochs=5, batch_size=32, lr=1e-2)


def cosines(problem, make_engine, inputs):
    """The cosines of the network that training begins with, by their definition."""
    network = LDAM().fit(problem, make_engine(PLAN.for_epochs(0))).network
    with torch.no_grad():
        features = network.backbone(inputs).double().numpy()
    weight = network.classifier.weight.detach().double().numpy()
    return np.array([[x @ w / np.linalg.norm(x) / np.linalg.norm(w) for w in weight] for x in features])


def reference(cosines, labels, counts, weights):
    """sum_i w_i CE(s (cos - m_y)) / sum_i w_i, image by image."""
    losses = []
    for row, label in zip(cosines, labels, strict=True):
        z = 30 * row
        z[label] -= 30 * 0.5 * (min(counts) / counts[label]) ** 0.25
        losses.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[label])
    image_weights = np.array([weights[label] for label in labels])
    return (image_weights * losses).sum() / image_weights.sum()


@pytest.mark.parametrize("drw_start", [0.8, 0.0])
def test_margins_come_first_and_weights_from_the_start_of_drw_on(plain, inputs, make_engine, logged, drw_start):
    counts = np.asarray(plain.counts.per_class)
    weights = (1 - 0.9) / (1 - 0.9**counts) if drw_start == 0 else np.ones(6)
    engine = make_engine(PLAN.for_epochs(1))
    LDAM(drw_start=drw_start, beta=0.9).fit(plain, engine)
    expected = reference(cosines(plain, make_engine, inputs), plain.train.labels, counts, weights)
    assert logged(engine) == pytest.approx([expected], rel=1e-5)


def test_the_weights_begin_at_the_stated_step(problem, make_engine, logged):
    """Epochs 0 to 3 of 5 are alike with and without weights, the fifth is not: 0.8 of the training are 4 epochs."""
    deferred, never = make_engine(PLAN), make_engine(PLAN)
    LDAM().fit(problem, deferred)
    LDAM(drw_start=1.0).fit(problem, never)
    assert logged(deferred)[:4] == logged(never)[:4]
    assert abs(logged(deferred)[4] - logged(never)[4]) > 1e-4


def test_a_scale_in_the_classifier_gives_the_loss_of_the_authors_who_have_it_in_the_loss(
    plain, inputs, make_engine, logged
):
    engine = make_engine(PLAN.for_epochs(1))
    LDAM().fit(plain, engine)
    loss = PublishedLoss(plain.counts)
    expected = loss(
        torch.from_numpy(cosines(plain, make_engine, inputs)).float(), torch.from_numpy(plain.train.labels)
    ).mean()
    assert logged(engine) == pytest.approx([float(expected)], rel=1e-5)


def test_it_predicts_by_the_cosines_without_margin(problem, make_engine, unseen):
    predictor = LDAM().fit(problem, make_engine(PLAN)).eval()
    network = predictor.network
    with torch.no_grad():
        expected = 30 * F.normalize(network.backbone(unseen)) @ F.normalize(network.classifier.weight).T
        scores = predictor(unseen) + predictor.log_weights(None)
    torch.testing.assert_close(scores, expected)
    assert scores.abs().max() <= 30 * (1 + 1e-6)


def test_without_margin_and_weights_it_is_the_cross_entropy_of_scaled_cosines(plain, inputs, make_engine, logged):
    engine = make_engine(PLAN.for_epochs(1))
    LDAM(max_m=0.0, drw_start=1.0).fit(plain, engine)
    z = torch.from_numpy(30 * cosines(plain, make_engine, inputs))
    assert logged(engine) == pytest.approx([float(F.cross_entropy(z, torch.from_numpy(plain.train.labels)))], rel=1e-5)


@pytest.mark.parametrize(("name", "value"), [("max_m", -0.5), ("s", 0.0), ("drw_start", 1.5), ("beta", 1.0)])
def test_a_hyper_parameter_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=rf"method\.{name} = {value}; expected a "):
        LDAM(**{name: value})
