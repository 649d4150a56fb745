import copy
import dataclasses

import pytest
import torch
from torch import nn

from forktail.backbones.classified import Classified
from forktail.backbones.classifiers import ScaledClassifier
from forktail.backbones.layered import Layered
from forktail.data.sampling import ClassAware
from forktail.errors import InputError
from forktail.losses.cross_entropy import CrossEntropy
from forktail.losses.label_aware_smoothing import LabelAwareSmoothing
from forktail.methods.mislas import LabelAwareRetraining, MiSLAS
from forktail.training.engine import Engine
from forktail.training.mix import Mix
from forktail.training.objective import set_modes
from forktail.training.plan import Plan

PLAN = Plan(epochs=2, batch_size=8, lr=1e-2)


class Noting(Engine):
    """An engine that remembers the samplers and plans of its stages."""

    def train(self, stage, objective, images, plan=None, *sampler):
        self.seen[stage] = (plan, *sampler)
        return super().train(stage, objective, images, plan, *sampler)


def test_it_mixes_in_the_first_stage_alone_and_balances_in_the_second(problem, make_engine):
    engine = Noting(make_engine().run, dataclasses.replace(PLAN, epochs=36, batch_size=32, mix=Mix(cutmix=1.0)))
    engine.seen = {}
    MiSLAS(mixup=0.7).fit(problem, engine)
    (first,), (second, sampler) = engine.seen["training"], engine.seen["classifier"]
    assert (first.mix, second.mix, sampler) == (Mix(mixup=0.7), Mix(), ClassAware(each=4))
    assert (first.epochs, second.epochs) == (36, 10)


def test_without_smoothing_the_loss_is_cross_entropy(problem):
    objective = MiSLAS(smooth_head=0.0)._smoothing(problem, problem.network())
    logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(objective.loss(logits, torch.arange(6)), CrossEntropy()(logits, torch.arange(6)))


def test_smoothing_reaches_from_the_rarest_to_the_most_frequent_class(problem):
    smooth = MiSLAS(smooth_head=0.4, smooth_tail=0.1)._smoothing(problem, problem.network()).loss.smooth
    assert smooth[problem.counts.per_class.argmin()].item() == pytest.approx(0.1)
    assert smooth[problem.counts.per_class.argmax()].item() == pytest.approx(0.4)


def test_the_backbone_gets_no_gradient_and_stays_as_it_was(problem, make_engine):
    kept = {}

    class Keeping(Engine):
        def train(self, stage, objective, *rest):
            kept[stage] = copy.deepcopy(objective.network.state_dict())
            return super().train(stage, objective, *rest)

    network = MiSLAS().fit(problem, Keeping(make_engine().run, PLAN)).network
    for name, value in network.state_dict().items():
        same = torch.equal(value, kept["classifier"][name])
        assert same == name.startswith("backbone."), name
    assert not any(parameter.requires_grad for parameter in network.backbone.parameters())


def make_objective(lr_factor, norm=None):
    chain = Layered(nn.Flatten(), [nn.Linear(12, 4), *([norm] if norm else [])], nn.Identity(), num_features=4)
    network = Classified(chain, ScaledClassifier(nn.Linear(4, 3)))
    return LabelAwareRetraining(network, LabelAwareSmoothing([9, 3, 1]), lr_factor)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_classifier_learns_as_at_a_learning_rate_of_its_own(kind):
    """Against an optimiser with two groups, whose rates change as under a schedule."""
    torch.manual_seed(0)
    ours = make_objective(lr_factor=0.2).double()
    theirs = copy.deepcopy(ours)
    make = {"sgd": lambda g: torch.optim.SGD(g, momentum=0.9, weight_decay=0.1), "adamw": torch.optim.AdamW}[kind]
    slow = list(theirs.classifier.parameters())
    fast = [p for p in theirs.parameters() if all(p is not q for q in slow)]
    optimizer, reference = make([{"params": list(ours.parameters())}]), make([{"params": fast}, {"params": slow}])
    random = torch.Generator().manual_seed(1)
    for lr in (0.1, 0.05, 0.02):
        optimizer.param_groups[0]["lr"] = reference.param_groups[0]["lr"] = lr
        reference.param_groups[1]["lr"] = 0.2 * lr
        inputs, targets = torch.randn(5, 3, 2, 2, generator=random).double(), torch.tensor([0, 1, 2, 0, 1])
        for objective, steps in ((ours, optimizer), (theirs, reference)):
            steps.zero_grad()
            objective.loss(objective.network(inputs), targets).mean().backward()
            steps.step()
        ours.after_step()
    for (name, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)


@pytest.mark.parametrize("shift_bn", [True, False])
def test_a_batch_norm_is_shifted_and_its_affine_part_is_not(problem, shift_bn):
    """PyTorch's running mean moves a tenth of the way to the batch's."""
    network = problem.network()
    norm = nn.BatchNorm1d(5)
    network.branches[0].readout = norm
    objective = MiSLAS(shift_bn=shift_bn)._smoothing(problem, network)
    set_modes(objective)
    inputs = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    objective.network(inputs)
    chain = network.path(0)
    hidden = chain.stem(inputs)
    for unit in chain.units:
        hidden = unit(hidden)
    expected = 0.1 * hidden.mean(0) if shift_bn else torch.zeros(5)
    torch.testing.assert_close(norm.running_mean, expected)
    assert not norm.weight.requires_grad
    assert norm.training == shift_bn


def test_a_fit_that_is_stopped_in_its_second_stage_ends_as_if_it_had_not_been(
    problem, make_engine, monkeypatch, tmp_path
):
    whole = MiSLAS(classifier_epochs=2).fit(problem, make_engine(PLAN)).network.state_dict()
    steps, after_step = [], LabelAwareRetraining.after_step

    def stop_after_the_fifth(self):
        after_step(self)
        steps.append(1)
        if len(steps) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(LabelAwareRetraining, "after_step", stop_after_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        MiSLAS(classifier_epochs=2).fit(problem, make_engine(PLAN, cache=tmp_path, checkpoint_seconds=0.0))
    again = MiSLAS(classifier_epochs=2).fit(problem, make_engine(PLAN, cache=tmp_path)).network.state_dict()
    assert len(steps) == 5 + 4  # four of the eight were saved
    for name, value in again.items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("mixup", -1.0, "a number >= 0"),
        ("smooth_head", 1.5, r"a number in \[0, 1\]"),
        ("smooth_tail", -0.5, r"a number in \[0, 1\]"),
        ("lr_factor", 0.0, "a number > 0"),
    ],
)
def test_a_field_out_of_range_is_refused(field, value, expected):
    with pytest.raises(InputError, match=f"method.{field} = {value}; expected {expected}"):
        MiSLAS(**{field: value})
