import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from forktail.backbones.classified import Classified
from forktail.backbones.experts import Experts
from forktail.errors import InputError
from forktail.labels import ClassCounts
from forktail.losses.ldam import LDAM
from forktail.methods._routing import Routed, Routing, experts_asked, needs_help, routing_loss
from forktail.methods.ride import RIDE, Distillation, Diverse, class_temperatures, diversity, softened_divergence
from forktail.predictor import load_weights, read_spec, save_predictor
from forktail.training.cost import inference_flops
from forktail.training.mix import Mix
from forktail.training.objective import Batch, Deferred
from forktail.training.plan import Plan

COUNTS = ClassCounts(np.array([3, 12, 1, 8, 2, 6]))
TARGETS = torch.tensor([0, 2, 5, 1, 1])
QUICK = Plan(epochs=2, batch_size=8, lr=1e-2)


class Recorded(nn.Module):
    """Experts whose logits are given."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def expert_logits(self, inputs):
        return self.logits

    def forward(self, inputs):
        return self.logits.mean(0)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(progress, inputs=None, targets=TARGETS):
    inputs = torch.zeros(len(targets), 1) if inputs is None else inputs
    return Batch(inputs, targets, torch.arange(len(targets)), progress, torch.Generator())


def diverse(network, diversity_factor=-0.2, distillation=None):
    return Diverse(
        network,
        early=LDAM(COUNTS, max_m=15.0, s=1.0),
        late=LDAM(COUNTS, max_m=15.0, s=1.0, beta=0.9999),
        temperatures=class_temperatures(COUNTS, 0.05),
        start=0.8,
        diversity_factor=diversity_factor,
        distillation=distillation,
    )


def divergence(wanted, logits, temperatures):
    p, q = (np.exp(row / temperatures) / np.exp(row / temperatures).sum() for row in (wanted, logits))
    return np.mean(temperatures) ** 2 * float(sum(p * (np.log(p) - np.log(q))))


def loss_by_hand(logits, targets, progress, factor):
    """Section 3.7 image by image; the batch's weighted mean is scaled so that its plain mean is that of the code."""
    n = COUNTS.per_class
    margins = 15.0 * (n.min() / n) ** 0.25
    weights, temperatures = np.ones(6), np.ones(6)
    if progress >= 0.8:
        weights = (1 - 0.9999) / (1 - 0.9999**n)
        weights = weights * 6 / weights.sum()
        temperatures = 6 * COUNTS.prior * 0.05 + 1 - 0.05
        temperatures = temperatures / temperatures.max()
    total = 0.0
    for expert in logits:
        weighted = 0.0
        for row, target in zip(expert, targets, strict=True):
            z = row - margins * (np.arange(6) == target)
            weighted += weights[target] * (np.log(np.exp(z).sum()) - z[target])
        total += weighted / weights[targets].sum()
        apart = [divergence(logits[:, i].mean(0), expert[i], temperatures) for i in range(len(targets))]
        total += factor * np.mean(apart)
    return total


@pytest.mark.parametrize("progress", [0.0, 0.79, 0.8, 0.99])
def test_the_loss_of_a_batch_is_that_of_a_slow_loop(progress):
    logits = 3 * drawn(3, 5, 6)
    found = diverse(Recorded(logits)).double()(batch(progress)).mean().detach()
    expected = loss_by_hand(logits.numpy(), TARGETS.numpy(), progress, -0.2)
    np.testing.assert_allclose(float(found), expected, rtol=1e-6)


@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_one_expert_without_diversity_is_deferred_ldam(progress):
    """The experts' scale stands in the network, so the margin is s m; Deferred takes cosines and scales them itself."""
    cosines = drawn(5, 6).tanh()
    early, late = LDAM(COUNTS), LDAM(COUNTS, beta=0.9999)
    expected = Deferred(nn.Identity(), early, late, start=0.8)(batch(progress, inputs=cosines))
    found = diverse(Recorded(30 * cosines[None]), diversity_factor=0.0)(batch(progress))
    torch.testing.assert_close(found.detach(), expected, rtol=1e-6, atol=1e-6)


def test_identical_experts_do_not_diverge():
    same = drawn(1, 5, 6).expand(3, 5, 6)
    torch.testing.assert_close(diversity(same, class_temperatures(COUNTS, 0.05).double()), torch.zeros(5).double())


def test_diversity_is_that_of_a_slow_loop_and_lowers_the_loss():
    logits, temperatures = drawn(3, 5, 6), class_temperatures(COUNTS, 0.4).double()
    found = diversity(logits, temperatures)
    means = logits.mean(0).numpy()
    expected = [
        sum(divergence(means[i], logits[k, i].numpy(), temperatures.numpy()) for k in range(3)) for i in range(5)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    with_term, without = (diverse(Recorded(logits), factor)(batch(0.0)) for factor in (-0.2, 0.0))
    torch.testing.assert_close(with_term, without - 0.2 * diversity(logits, torch.ones(6)))


def test_the_mean_of_the_experts_gets_no_gradient():
    logits = drawn(3, 5, 6).requires_grad_()
    diversity(logits, torch.ones(6).double()).sum().backward()
    mean = logits.detach().mean(0)
    expected = logits.detach().softmax(2) - mean.softmax(1)  # of KL(p || softmax(v)) at a constant p
    torch.testing.assert_close(logits.grad, expected)
    torch.testing.assert_close(logits.grad.sum(2), torch.zeros(3, 5).double())
    assert torch.autograd.gradcheck(
        lambda v: softened_divergence(mean, v, class_temperatures(COUNTS, 0.4).double()),
        (drawn(5, 6).requires_grad_(),),
    )


def test_frequent_classes_are_softened_more_and_equal_ones_alike():
    temperatures = class_temperatures(COUNTS, 0.05)
    assert temperatures.max() == temperatures[1] == 1
    np.testing.assert_array_equal(np.argsort(temperatures.numpy()), np.argsort(COUNTS.per_class))
    torch.testing.assert_close(class_temperatures(ClassCounts(np.full(4, 9)), 0.5), torch.ones(4))
    torch.testing.assert_close(class_temperatures(COUNTS, 0.0), torch.ones(6))


def test_distillation_follows_the_teachers_mean_and_leaves_it_alone():
    teacher, student = Recorded(drawn(6, 5, 6, seed=1)), drawn(3, 5, 6, seed=2)
    objective = diverse(Recorded(student), distillation=Distillation(teacher, temperature=1.5, factor=2.0))
    alone = diverse(Recorded(student))(batch(0.0))
    wanted = teacher.logits.detach().mean(0).numpy()
    expected = [divergence(wanted[i], student[:, i].mean(0).numpy(), np.full(6, 1.5)) for i in range(5)]
    found = objective(batch(0.0))
    np.testing.assert_allclose((found - alone).detach(), 2 * np.array(expected), rtol=1e-6, atol=1e-9)
    found.sum().backward()
    assert teacher.logits.grad is None
    assert objective.network.logits.grad.abs().max() > 0


# --- routing ---------------------------------------------------------------------------------------------------------


def test_help_is_needed_where_more_experts_would_put_it_right():
    means = drawn(4, 50, 3)
    targets = torch.arange(50) % 3
    found = needs_help(means, targets)
    for k in range(3):
        for i in range(50):
            right = [int(means[j, i].argmax()) == int(targets[i]) for j in range(4)]
            assert bool(found[k, i]) == (not right[k] and any(right[k + 1 :]))
    assert 0 < found.sum() < found.numel()


def test_the_routers_loss_is_the_weighted_binary_cross_entropy():
    asks, needs = 5 * drawn(2, 40), drawn(2, 40, seed=1) > 0
    expected = F.binary_cross_entropy_with_logits(
        asks, needs.double(), pos_weight=torch.tensor(20.0).double(), reduction="none"
    )
    torch.testing.assert_close(routing_loss(asks, needs, 20.0), expected)
    extreme = routing_loss(torch.tensor([1e4, -1e4]), torch.tensor([False, True]), 20.0)
    torch.testing.assert_close(extreme, torch.tensor([1e4, 2e5]))


@pytest.fixture(scope="module")
def routed(problem, make_engine):
    engine = make_engine(QUICK)
    return RIDE(routing=True, routing_epochs=3).fit(problem, engine).eval(), engine


@pytest.fixture(scope="module")
def plain(problem, make_engine):
    return RIDE().fit(problem, make_engine(QUICK)).eval()


def with_bias(routed, *biases):
    for router, bias in zip(routed.routers, biases, strict=True):
        nn.init.constant_(router.decide.bias, bias)


@pytest.fixture
def by_hand(plain):
    experts = copy.deepcopy(plain.network)
    experts.zero_grad()
    routed = Routed(experts, 4, torch.Generator().manual_seed(0)).eval()
    for router in routed.routers:
        nn.init.normal_(router.decide.weight, std=0.2, generator=torch.Generator().manual_seed(1))
    return routed


def test_an_image_leaves_with_the_experts_that_it_was_sent_to(by_hand, unseen):
    experts = by_hand.experts
    every = experts.expert_logits(unseen)
    with_bias(by_hand, 1e6, 1e6)
    logits, asked = by_hand.exits(unseen)
    torch.testing.assert_close(logits, every.mean(0))
    assert asked.tolist() == [3] * 12
    with_bias(by_hand, -1e6, 1e6)
    logits, asked = by_hand.exits(unseen)
    torch.testing.assert_close(logits, every[0])
    assert asked.tolist() == [1] * 12
    with_bias(by_hand, 1e6, -1e6)
    torch.testing.assert_close(by_hand(unseen), every[:2].mean(0))


@torch.no_grad()
def test_routing_is_that_of_one_image_at_a_time(by_hand, unseen):
    """With thresholds in the middle of what the routers say, so that images leave everywhere."""
    experts = by_hand.experts
    features, logits = experts.trunk(unseen), experts.expert_logits(unseen)
    with_bias(by_hand, 0.0, 0.0)
    said = [by_hand.routers[k](features[k], logits[: k + 1].mean(0)) for k in range(2)]
    with_bias(by_hand, *(-float(values.sort().values[3:5].mean()) for values in said))
    found, asked = by_hand.exits(unseen)
    for i in range(12):
        used = 1
        while used < 3 and by_hand.routers[used - 1](features[used - 1], logits[:used].mean(0))[i] > 0:
            used += 1
        assert asked[i] == used
        torch.testing.assert_close(found[i], logits[:used, i].mean(0))
        torch.testing.assert_close(by_hand(unseen[i : i + 1])[0], found[i])
    assert set(asked.tolist()) == {1, 2, 3}


def test_routers_alone_learn_and_the_experts_stay_bit_equal(routed, plain):
    predictor, engine = routed
    assert isinstance(predictor.network, Routed)
    for key, value in plain.network.state_dict().items():
        torch.testing.assert_close(predictor.network.experts.state_dict()[key], value, rtol=0, atol=0)
    stages = {record["stage"]: record for record in engine.manifest}
    assert list(stages) == ["training", "routing", "experts-asked"]
    learnt = sum(parameter.numel() for parameter in predictor.network.routers.parameters())
    assert stages["routing"]["trained_parameters"] == learnt


def test_the_routers_loss_is_averaged_over_them_and_reaches_them_alone(by_hand, unseen):
    objective = Routing(by_hand, pos_weight=20.0)
    targets = torch.arange(12) % 6
    found = objective(batch(0.0, unseen, targets))
    features, logits = by_hand.experts.trunk(unseen), by_hand.experts.expert_logits(unseen)
    means = torch.stack([logits[:k].mean(0) for k in (1, 2, 3)])
    asks = torch.stack([by_hand.routers[k](features[k], means[k]) for k in range(2)])
    torch.testing.assert_close(found, sum(routing_loss(asks, needs_help(means, targets), 20.0)) / 2)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in by_hand.routers.parameters())
    assert all(parameter.grad is None for parameter in by_hand.experts.parameters())


def test_what_the_exit_saves_is_counted_and_told(routed, problem):
    predictor, engine = routed
    images = problem.train.with_transform(problem.preprocess)
    asked = experts_asked(predictor.network, images, torch.device("cpu"))
    everything = inference_flops(predictor.network, (3, 8, 8))
    shared = inference_flops(predictor.network.experts.trunk.shared, (3, 8, 8))
    expected = 32 * shared + (everything - shared) / 3 * asked.sum()
    np.testing.assert_allclose(engine.manifest[-1]["flops"], expected, rtol=1e-12)
    assert f"{asked.mean():.2f} of 3 experts per image on the training images" in engine.notes[-1]


def test_traced_without_data_every_expert_is_counted(by_hand):
    everything = inference_flops(by_hand, (3, 8, 8))
    assert everything > inference_flops(by_hand.experts, (3, 8, 8)) > 0


def test_a_routed_model_is_loaded_again(routed, tmp_path, unseen):
    predictor, _ = routed
    save_predictor(tmp_path, predictor)
    spec = read_spec(tmp_path)
    loaded = load_weights(RIDE(**spec.options).build(spec), tmp_path)
    torch.testing.assert_close(loaded(unseen), predictor(unseen), rtol=0, atol=0)


# --- stages ----------------------------------------------------------------------------------------------------------


def test_all_stages_together_keep_to_a_compute_budget(problem, make_engine):
    free, method = make_engine(QUICK), RIDE(teacher_experts=4, routing=True)
    method.fit(problem, free)
    assert [record["stage"] for record in free.manifest] == ["teacher", "training", "routing", "experts-asked"]
    bound = make_engine(Plan(epochs=9, batch_size=8, lr=1e-2, flops=2 * free.flops))
    method.fit(problem, bound)
    assert 1.7 * free.flops < bound.flops <= 2 * free.flops


def test_the_teacher_changes_what_is_learnt_and_is_no_part_of_the_model(problem, make_engine, plain, unseen):
    taught = RIDE(teacher_experts=4).fit(problem, make_engine(QUICK)).eval()
    assert isinstance(taught.network, Experts)
    assert len(taught.network.classifiers) == 3
    assert not torch.equal(taught(unseen), plain(unseen))


def test_mixed_images_train_the_experts_and_whole_ones_the_routers(problem, make_engine):
    plan = Plan(epochs=2, batch_size=8, lr=1e-2, mix=Mix(mixup=0.8, smoothing=0.1))
    network = RIDE(routing=True).fit(problem, make_engine(plan)).network
    assert isinstance(network, Routed)


def test_experts_share_all_but_the_last_third(problem, make_engine):
    trained = RIDE(num_experts=2).fit(problem, make_engine(Plan(epochs=0))).network
    assert (trained.trunk.depth, len(trained.trunk.branches)) == (1, 2)
    assert not isinstance(trained, Classified)
    with pytest.raises(InputError, match="5 shared units; expected 1 to 2"):
        RIDE(shared_units=5).fit(problem, make_engine(Plan(epochs=0)))


@pytest.mark.parametrize(
    "options",
    [
        {"num_experts": 0},
        {"num_experts": 1, "routing": True},
        {"shared_units": 0},
        {"s": 0.0},
        {"max_m": -0.1},
        {"beta": 1.0},
        {"reweight_start": 1.1},
        {"diversity_factor": 0.2},
        {"reweight_factor": 1.0},
        {"routing_epochs": -1},
        {"pos_weight": 0.0},
        {"top_choices": 0},
        {"teacher_experts": -1},
        {"distill_temperature": 0.0},
        {"distill_factor": -1.0},
    ],
)
def test_hyper_parameters_out_of_range_are_named(options):
    with pytest.raises(InputError, match=f"method.{next(iter(options))} = "):
        RIDE(**options)
