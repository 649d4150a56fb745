import itertools

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from forktail.backbones.adapters import adapt
from forktail.backbones.forked import Forked
from forktail.backbones.layered import Layered
from forktail.errors import InputError
from forktail.losses.cross_entropy import CrossEntropy
from forktail.training.objective import Supervised
from forktail.training.plan import Plan


def rates(plan, steps):
    optimizer = plan.make_optimizer(nn.Linear(2, 2))
    schedule = plan.make_schedule(optimizer, steps)
    found = []
    for step in range(steps):
        schedule.step_update(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_the_rate_warms_up_to_its_peak_and_falls_along_a_half_cosine():
    found = rates(Plan(lr=1.0, min_lr=0.0, warmup=0.1), 100)
    assert found[0] == pytest.approx(0.1)
    assert found[10] == pytest.approx(1.0)
    assert found[55] == pytest.approx(0.5)
    assert found[99] < 0.001
    assert all(a < b for a, b in itertools.pairwise(found[:11]))
    assert all(a > b for a, b in itertools.pairwise(found[10:]))


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert rates(Plan(lr=1.0, warmup=0.0), 4)[0] == pytest.approx(1.0)


def test_the_rate_is_a_function_of_the_step_alone():
    plan = Plan()
    schedule = plan.make_schedule(optimizer := plan.make_optimizer(nn.Linear(2, 2)), 50)
    schedule.step_update(33)
    assert optimizer.param_groups[0]["lr"] == rates(plan, 50)[33]


def test_biases_and_norms_do_not_decay():
    groups = Plan(weight_decay=0.3).make_optimizer(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))).param_groups
    decay = {p.ndim: group["weight_decay"] for group in groups for p in group["params"]}
    assert decay == {1: 0.0, 2: 0.3}


def test_what_is_frozen_is_not_optimised():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    optimised = {id(p) for group in Plan().make_optimizer(module).param_groups for p in group["params"]}
    assert optimised == {id(p) for p in module[1].parameters()}


def test_sgd_has_plain_momentum():
    (group, *_) = Plan(optimizer="sgd").make_optimizer(nn.Linear(2, 1)).param_groups
    assert (group["momentum"], group["nesterov"]) == (0.9, False)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_every_optimiser_takes_a_step(name):
    module = nn.Linear(2, 1)
    before = module.weight.detach().clone()
    optimizer = Plan(optimizer=name).make_optimizer(module)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(module.weight, before)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", -1), ("batch_size", 0), ("lr", 0.0), ("warmup", 1.0), ("weight_decay", -0.1), ("betas", (0.9, 1.0)),
     ("clip", -1.0), ("flops", 0.0), ("min_lr", 1.0)],
)  # fmt: skip
def test_a_senseless_value_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=rf"plan\.{field} = "):
        Plan(**{field: value})


def test_the_step_schedule_falls_at_its_milestones():
    plan = Plan(lr=1.0, schedule="step", milestones=(0.8, 0.9), decay=0.01, warmup=0.05)
    found = rates(plan, 200)
    assert found[:3] == pytest.approx([0.1, 0.19, 0.28])
    assert found[10] == found[159] == pytest.approx(1.0)
    assert found[160] == found[179] == pytest.approx(0.01)
    assert found[180] == found[199] == pytest.approx(0.0001)


def test_layers_learn_slower_the_deeper_they_lie():
    chain = Layered(nn.Linear(2, 2), [nn.Linear(2, 2), nn.Linear(2, 2)], nn.LayerNorm(2), num_features=2)
    objective = Supervised(Forked.single(chain, 3), CrossEntropy())
    plan = Plan(lr=1.0, layer_decay=0.5, warmup=0.0)
    optimizer = plan.make_optimizer(objective)
    plan.make_schedule(optimizer, 10).step_update(0)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    network = objective.network
    for name, parameter in network.named_parameters():
        assert rate[id(parameter)] == pytest.approx(0.5 ** (3 - network.unit_of(name))), name


def test_layer_decay_agrees_with_timms_own_for_a_vision_transformer():
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, global_pool="avg")
    expected = [(g["lr_scale"], sum(p.numel() for p in g["params"])) for g in param_groups_layer_decay(model)]
    network = Forked.single(adapt(timm.create_model("vit_tiny_patch16_224", num_classes=0, global_pool="avg")), 5)
    groups = Plan(layer_decay=0.75).make_optimizer(Supervised(network, CrossEntropy())).param_groups
    found = [(g["lr_scale"], sum(p.numel() for p in g["params"])) for g in groups]

    def summed(pairs):
        scales = sorted({round(scale, 12) for scale, _ in pairs})
        return [(scale, sum(n for s, n in pairs if round(s, 12) == scale)) for scale in scales]

    assert summed(found) == summed(expected)


@pytest.mark.parametrize(
    "numbers", [{"milestones": (0.9, 0.8)}, {"milestones": (1.0,)}, {"decay": 0.0}, {"layer_decay": 1.5}]
)
def test_schedule_numbers_out_of_range_are_refused(numbers):
    with pytest.raises(InputError, match=f"plan.{next(iter(numbers))}"):
        Plan(**numbers)
