from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from forktail.backbones.forked import Forked, fork
from forktail.backbones.layered import Layered
from forktail.backbones.open import BackboneSpec, open_backbone
from forktail.errors import InputError
from forktail.labels import TaskSplit

SPLIT = TaskSplit((np.array([4, 0, 2]), np.array([3, 1])))
BACKBONES = {
    "tiny": BackboneSpec("tiny", weights="random"),
    "vit_base_patch16_224": BackboneSpec("vit_base_patch16_224", weights="random"),
}
SIZES = {"tiny": 28, "vit_base_patch16_224": 224}


@cache
def sources(name):
    """Stage 2's network and Stage 1's two, all with different parameters."""
    joint = Forked(backbone := open_backbone(BACKBONES[name], seed=1), SPLIT, backbone.depth, seed=1)
    alone = [Forked.single(open_backbone(BACKBONES[name], seed=2 + t), len(SPLIT.tasks[t]), seed=2 + t) for t in (0, 1)]
    for network in (joint, *alone):
        for parameter in network.parameters():  # biases too must differ between the sources
            with torch.no_grad():
                parameter.add_(parameter.sum().sign() * 1e-3)
    return joint.eval(), [network.eval() for network in alone]


@pytest.fixture(scope="module", autouse=True)
def _give_back_the_memory_of_the_large_networks():
    yield
    sources.cache_clear()


def images(name, num=2):
    return torch.randn(num, 3, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(0))


def toy(depth=3):
    units = [nn.Linear(4, 4) for _ in range(depth)]
    return Layered(nn.Sequential(nn.Flatten(), nn.Linear(6, 4)), units, nn.LayerNorm(4), num_features=4)


def assert_bit_equal(left, right):
    torch.testing.assert_close(left.state_dict(), right.state_dict(), rtol=0, atol=0)


DEPTHS = [("tiny", depth) for depth in range(7)] + [("vit_base_patch16_224", depth) for depth in range(13)]


@pytest.mark.parametrize(("name", "depth"), DEPTHS)
@pytest.mark.parametrize("decoders", ["stage1", "stage2"])
def test_every_parameter_equals_its_source(name, depth, decoders):
    joint, alone = sources(name)
    network = fork(joint, alone if decoders == "stage1" else None, depth)
    assert network.depth == depth
    top = joint.max_depth
    checked = 0
    for task in (0, 1):
        own = (alone[task], 0) if decoders == "stage1" else (joint, task)
        for index in range(top + 2):
            source, source_task = (joint, 0) if depth >= 1 and index <= depth else own
            assert_bit_equal(network.layer(task, index), source.layer(source_task, index))
            checked += len(list(network.layer(task, index).parameters()))
        assert_bit_equal(network.classifier(task), own[0].classifier(own[1]))
        checked += 2
    twice = len(list(network.shared.parameters()))
    assert checked - twice == len(list(network.parameters()))


@pytest.mark.parametrize("depth", range(7))
def test_scores_are_those_of_the_assembled_layers(depth):
    joint, alone = sources("tiny")
    network = fork(joint, alone, depth).eval()
    for task, scores in enumerate(network.task_scores(images("tiny"))):
        hidden = images("tiny")
        for index in range(8):
            source = joint if depth >= 1 and index <= depth else alone[task]
            hidden = source.layer(0, index)(hidden)
        torch.testing.assert_close(scores, alone[task].classifier(0)(hidden), rtol=0, atol=0)


@pytest.mark.parametrize("name", BACKBONES)
def test_nothing_shared_gives_the_scores_of_stage_1(name):
    joint, alone = sources(name)
    with torch.no_grad():
        scores = fork(joint, alone, 0).eval().task_scores(images(name, 1))
        for task in (0, 1):
            torch.testing.assert_close(scores[task], alone[task](images(name, 1)), rtol=0, atol=0)


@pytest.mark.parametrize("depth", range(7))
def test_stage_2_decoders_start_at_the_scores_of_stage_2(depth):
    joint, _ = sources("tiny")
    scores = fork(joint, None, depth).eval()(images("tiny"))
    torch.testing.assert_close(scores, joint(images("tiny")), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "depth"), [("tiny", 0), ("tiny", 3), ("tiny", 6), ("vit_base_patch16_224", 6)])
def test_gradient_reaches_every_parameter(name, depth):
    joint, alone = sources(name)
    network = fork(joint, alone, depth)
    gradients = torch.autograd.grad(network(images(name, 1)).square().sum(), list(network.parameters()))
    assert all(torch.isfinite(gradient).all() and gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("depth", range(4))
def test_shared_part_runs_exactly_once(depth):
    network = Forked(toy(), SPLIT, depth)
    calls = []
    for index, layer in enumerate(network.shared.values()):
        layer.register_forward_hook(lambda *_, index=index: calls.append(index))
    network(torch.zeros(2, 6))
    assert calls == list(range(depth + 1 if depth else 0))


def test_forks_do_not_touch_their_sources():
    joint, alone = Forked(toy(), SPLIT, 3), [Forked.single(toy(), 3), Forked.single(toy(), 2)]
    before = [{n: p.clone() for n, p in network.named_parameters()} for network in (joint, *alone)]
    network = fork(joint, alone, 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    for source, old in zip((joint, *alone), before, strict=True):
        torch.testing.assert_close(dict(source.named_parameters()), old, rtol=0, atol=0)


@pytest.mark.parametrize("depth", range(4))
def test_names_carry_the_chain_index(depth):
    names = {name.rsplit(".", 1)[0] for name, _ in Forked(toy(), SPLIT, depth).named_parameters()}
    shared = {f"shared.{i}" + (".1" if i == 0 else "") for i in range(depth + 1 if depth else 0)}
    first = depth + 1 if depth else 0
    own = {f"branches.{t}.layers.{i}" + (".1" if i == 0 else "") for t in (0, 1) for i in range(first, 4)}
    assert names == shared | own | {f"branches.{t}.{part}" for t in (0, 1) for part in ("readout", "classifier")}


@pytest.mark.parametrize("depth", range(4))
def test_shared_and_own_parameters_are_all_there_are(depth):
    network = Forked(toy(), SPLIT, depth)
    shared = {id(parameter) for parameter in network.shared.parameters()}
    own = {id(parameter) for parameter in network.branches.parameters()}
    assert not shared & own
    assert shared | own == {id(parameter) for parameter in network.parameters()}
    assert len(shared) == (0 if depth == 0 else 2 * (depth + 1))


@pytest.mark.parametrize("depth", [0, 2, 3])
def test_skeleton_loads_strictly(depth):
    trained = fork(Forked(toy(), SPLIT, 3, seed=5), None, depth).eval()
    skeleton = Forked(toy(), SPLIT, depth).eval()
    skeleton.load_state_dict(trained.state_dict(), strict=True)
    inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(skeleton(inputs), trained(inputs), rtol=0, atol=0)


def test_class_order_is_saved_and_decides_the_split():
    network = Forked(toy(), SPLIT, 3)
    skeleton = Forked(toy(), TaskSplit((np.array([0, 1, 2]), np.array([3, 4]))), 3)
    skeleton.load_state_dict(network.state_dict())
    assert [task.tolist() for task in skeleton.split.tasks] == [[4, 0, 2], [3, 1]]


def test_forward_puts_scores_into_class_order():
    network = Forked(toy(), SPLIT, 3)
    inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    scores, (head, tail) = network(inputs), network.task_scores(inputs)
    for task, part in ((0, head), (1, tail)):
        torch.testing.assert_close(scores[:, SPLIT.tasks[task].tolist()], part, rtol=0, atol=0)


def test_copies_of_one_backbone_are_independent():
    backbone = toy()
    network = Forked(backbone, SPLIT, 1)
    tensors = [*network.parameters(), *backbone.parameters()]
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)


def test_classifiers_follow_the_seed_and_nothing_else():
    before = torch.get_rng_state()
    backbone = toy()
    after_backbone = torch.get_rng_state()
    first, again, other = (Forked(backbone, SPLIT, 3, seed) for seed in (0, 0, 1))
    torch.testing.assert_close(torch.get_rng_state(), after_backbone, rtol=0, atol=0)
    assert not torch.equal(before, after_backbone)
    assert_bit_equal(first, again)
    assert not torch.equal(first.classifier(0).weight, other.classifier(0).weight)
    assert first.classifier(0).weight.abs().max() < 0.05
    torch.testing.assert_close(first.classifier(0).bias, torch.zeros(3))


def test_network_takes_type_and_mode_from_its_use():
    network = Forked(toy().double().eval(), SPLIT, 2)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float64}
    assert all(module.training for module in network.modules())
    assert network.class_order.dtype == torch.int64


def test_three_tasks():
    split = TaskSplit((np.array([3]), np.array([0, 4]), np.array([1, 2])))
    joint = Forked(toy(), split, 3)
    network = fork(joint, [Forked.single(toy(), n) for n in (1, 2, 2)], 2)
    assert network(torch.zeros(2, 6)).shape == (2, 5)
    assert network.num_tasks == 3


@pytest.mark.parametrize("depth", [-1, 4])
def test_depth_outside_the_backbone_is_refused(depth):
    with pytest.raises(InputError, match="expected 0 to 3"):
        Forked(toy(), SPLIT, depth)


def test_more_than_the_shared_units_cannot_be_shared():
    with pytest.raises(InputError, match="expected 0 to 1"):
        fork(Forked(toy(), SPLIT, 1), None, 2)


@pytest.mark.parametrize("classes", [(3,), (2, 3), (3, 2, 1)])
def test_decoders_that_do_not_fit_are_refused(classes):
    with pytest.raises(InputError, match=r"with \[3, 2\] classes"):
        fork(Forked(toy(), SPLIT, 3), [Forked.single(toy(), n) for n in classes], 1)


def test_decoder_of_two_tasks_is_refused():
    with pytest.raises(InputError, match="one network of one task"):
        fork(Forked(toy(), SPLIT, 3), [Forked.single(toy(), 3), Forked(toy(), SPLIT, 3)], 1)


def test_unknown_layer_is_refused():
    with pytest.raises(ValueError, match=r"expected 0\.\.4"):
        Forked(toy(), SPLIT, 3).layer(0, 5)
