import math

import numpy as np
import pytest
import torch

from forktail.errors import InputError
from forktail.losses.generalized_reweighted import GeneralizedReweighted
from forktail.methods.ce import CE
from forktail.methods.disalign import CalibratedClassifier, DisAlign, Reweighted, calibrated_logits
from forktail.training.objective import Batch
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)
COUNTS = [90, 9, 1]


@pytest.fixture
def drawn():
    """Logits, confidences, magnitudes and margins in double precision."""
    random = torch.Generator().manual_seed(0)
    shapes = (4, 3), (4, 1), (3,), (3,)
    z, g, a, d = (torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes)
    return z, g.sigmoid(), a, d


def test_logits_are_calibrated_as_written(drawn):
    z, g, a, d = drawn
    expected = [[(1 + g[i, 0] * a[c]) * z[i, c] + g[i, 0] * d[c] for c in range(3)] for i in range(4)]
    torch.testing.assert_close(calibrated_logits(z, g, a, d), torch.tensor(expected, dtype=torch.float64))


def test_it_interpolates_as_the_paper_does(drawn):
    """g (alpha z + beta) + (1 - g) z with alpha = 1 + a."""
    z, g, a, d = drawn
    torch.testing.assert_close(calibrated_logits(z, g, a, d), g * ((1 + a) * z + d) + (1 - g) * z)


def test_no_magnitude_and_no_margin_leave_logits_as_they_are(drawn):
    z, g, _, _ = drawn
    torch.testing.assert_close(calibrated_logits(z, g, torch.zeros(3), torch.zeros(3)), z, rtol=0, atol=0)


def test_its_gradients_are_those_of_finite_differences(drawn):
    assert torch.autograd.gradcheck(calibrated_logits, [x.requires_grad_() for x in drawn])


def test_the_confidence_is_one_number_per_image():
    plain = torch.nn.Linear(2, 3).double()
    calibrated = CalibratedClassifier(plain, torch.Generator().manual_seed(0)).double()
    x = torch.tensor([[0.3, -2.0], [5.0, 1.0]], dtype=torch.float64)
    offset = calibrated.confidence_bias.item()
    assert 0 < abs(offset) <= 2**-0.5
    for row, found in zip(x, calibrated(x), strict=True):
        g = 1 / (1 + math.exp(-(0.1 * row[0] + 0.1 * row[1] + offset)))
        torch.testing.assert_close(found, (1 + g) * plain(row))


class Fixed(torch.nn.Module):
    """A network whose logits are what goes in."""

    def forward(self, inputs):
        return inputs


@pytest.mark.parametrize("rho", [0.0, 1.2])
def test_a_batch_is_a_weighted_mean(drawn, rho):
    logits, targets = drawn[0], torch.tensor([0, 0, 1, 2])
    objective = Reweighted(Fixed(), GeneralizedReweighted(COUNTS, rho)).double()
    found = objective(Batch(logits, targets, torch.arange(4), 0.0, torch.Generator())).mean()
    total = weights = 0.0
    for row, label in zip(logits.numpy(), targets, strict=True):
        weight = (COUNTS[label] / 100) ** -rho
        total += weight * (math.log(sum(math.exp(v) for v in row)) - row[label])
        weights += weight
    assert found.item() == pytest.approx(total / weights, rel=1e-6)
    if rho == 0:
        assert found.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item(), rel=1e-6)


def test_before_the_second_stage_it_decides_as_plain_training_does(problem, make_engine, unseen):
    plain = CE().fit(problem, make_engine(PLAN)).eval().network(unseen)
    found = DisAlign(classifier_epochs=0).fit(problem, make_engine(PLAN)).eval().network(unseen)
    torch.testing.assert_close(found.argmax(1), plain.argmax(1), rtol=0, atol=0)
    ratio = (found / plain).detach()
    np.testing.assert_allclose(ratio, ratio[:, :1].expand(-1, 6), rtol=1e-4)
    assert ((ratio > 1) & (ratio < 2)).all()


def test_the_calibration_alone_is_learned(problem, make_engine):
    plain = CE().fit(problem, make_engine(PLAN)).network
    found = DisAlign(classifier_epochs=3).fit(problem, make_engine(PLAN)).network
    trained = {name for name, parameter in found.named_parameters() if parameter.requires_grad}
    names = ("magnitude", "margin", "confidence_weight", "confidence_bias")
    assert trained == {f"classifier.{name}" for name in names}
    torch.testing.assert_close(found.classifier.classifier.weight, plain.classifier(0).weight, rtol=0, atol=0)
    for name, value in found.backbone.state_dict().items():
        torch.testing.assert_close(value, plain.path(0).state_dict()[name], rtol=0, atol=0, msg=name)
    assert found.classifier.margin.abs().min() > 0


def test_a_rho_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"method.rho = -1.0; expected a number >= 0"):
        DisAlign(rho=-1.0)
