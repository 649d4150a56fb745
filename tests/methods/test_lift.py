import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from forktail.backbones.layered import Layered
from forktail.backbones.open import BackboneSpec, input_facts, open_backbone
from forktail.errors import InputError
from forktail.methods._adapters import Bottleneck, adapted, low_rank
from forktail.methods.lift import LIFT, class_directions, default_bottleneck
from forktail.training.engine import Engine
from forktail.training.objective import set_modes
from forktail.training.plan import Plan
from forktail.training.progress import Silent

BACKBONES = ["tiny", "resnet8"]
KINDS = ["adaptformer", "lora"]


def generator():
    return torch.Generator().manual_seed(3)


def opened(name):
    spec = BackboneSpec(name, weights="random")
    return open_backbone(spec), input_facts(spec)["size"]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_change_nothing_at_first_and_alone_are_trained(name, kind):
    plain, side = opened(name)
    plain.eval()
    inputs = torch.randn(2, 3, side, side)
    changed = adapted(copy.deepcopy(plain), kind, 2, side, generator()).eval()
    torch.testing.assert_close(changed(inputs), plain(inputs), rtol=0, atol=0)
    trained = {name for name, p in changed.named_parameters() if p.requires_grad}
    assert all(".part." in name for name in trained)
    assert {changed.unit_of(name) for name in trained} == set(range(1, plain.depth + 1))  # in every unit
    old = sum(p.numel() for p in plain.parameters())
    assert sum(p.numel() for name, p in changed.named_parameters() if name not in trained) == old


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_second_half_gets_a_gradient(name, kind):
    plain, side = opened(name)
    changed = adapted(plain, kind, 2, side, generator()).eval()
    changed(torch.randn(8, 3, side, side)).square().sum().backward()
    ups = {n: p.grad for n, p in changed.named_parameters() if n.endswith(("up.weight", "part.1.weight"))}
    assert ups
    assert all(gradient.abs().max() > 0 for gradient in ups.values())


def test_a_bottleneck_is_its_formula():
    """s W_up relu(W_down LN(h) + b) + b', in float64 loops over tokens."""
    module = Bottleneck(5, 3, generator()).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator()))
    hidden = torch.randn(2, 4, 5, dtype=torch.float64)
    weights = {name: p.detach().numpy() for name, p in module.named_parameters()}
    for picture, row in zip(hidden.numpy(), module(hidden).detach().numpy(), strict=True):
        for h, found in zip(picture, row, strict=True):
            normed = (h - h.mean()) / np.sqrt(h.var() + 1e-5) * weights["norm.weight"] + weights["norm.bias"]
            narrow = np.maximum(weights["down.weight"] @ normed + weights["down.bias"], 0)
            np.testing.assert_allclose(found, weights["scale"] * (weights["up.weight"] @ narrow + weights["up.bias"]))


def test_a_feature_map_is_adapted_pixel_by_pixel():
    module = Bottleneck(5, 3, generator())
    nn.init.normal_(module.up.weight)
    maps = torch.randn(2, 5, 3, 4)
    found = module(maps)
    assert found.shape == maps.shape
    torch.testing.assert_close(found[1, :, 2, 3], module(maps[1, :, 2, 3]))


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(6, 4, 3, stride=2, padding=1), nn.Conv2d(6, 4, 1)])
def test_a_low_rank_map_is_the_change_of_the_weight(layer):
    """(W + B A) x: adding the product of both halves to the weight does what the map beside the layer does."""
    change = low_rank(layer, 2, generator())
    nn.init.normal_(change[1].weight)
    inputs = torch.randn(3, 6) if isinstance(layer, nn.Linear) else torch.randn(3, 6, 5, 5)
    beside = layer(inputs) + change(inputs)
    down, up = (half.weight.detach().flatten(1) for half in change)
    with torch.no_grad():
        layer.weight += (up @ down).view_as(layer.weight)
    torch.testing.assert_close(beside, layer(inputs))
    assert np.linalg.matrix_rank((up @ down).numpy()) == 2


def test_the_mlp_of_a_block_gets_the_bottleneck_beside_it():
    plain, side = opened("tiny")
    reference = copy.deepcopy(plain).eval()
    changed = adapted(plain, "adaptformer", 2, side, generator()).eval()
    adapter = changed.units[0].mlp.part
    nn.init.normal_(adapter.up.weight)
    hidden = torch.randn(1, 49, 64)
    block = reference.units[0]
    before_mlp = hidden + block.attn(block.norm1(hidden))
    normed = block.norm2(before_mlp)
    torch.testing.assert_close(changed.units[0](hidden), before_mlp + block.mlp(normed) + adapter(normed))


def test_a_unit_that_is_itself_a_linear_map_is_adapted():
    chain = Layered(nn.Flatten(), [nn.Linear(12, 4)], nn.Identity(), num_features=4)
    changed = adapted(chain, "lora", 2, 2, generator())
    assert [tuple(p.shape) for p in changed.parameters() if p.requires_grad] == [(2, 12), (4, 2)]


@pytest.mark.parametrize(
    ("num_classes", "units", "expected"), [(100, 12, 4), (365, 12, 8), (1000, 12, 32), (8142, 12, 256), (2, 12, 4)]
)
def test_the_default_bottleneck_is_the_published_one(num_classes, units, expected):
    assert default_bottleneck(num_classes, units) == expected
    if expected > 4:
        assert expected <= num_classes / (2 * units) < 2 * expected


def test_class_directions_are_the_mean_features():
    features, labels = torch.randn(9, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1])
    for c, direction in enumerate(class_directions(features, labels, 3).numpy()):
        mean = features[labels == c].numpy().mean(0)
        np.testing.assert_allclose(direction, mean / math.sqrt((mean**2).sum()))


@pytest.mark.parametrize("kind", KINDS)
def test_before_any_step_it_predicts_by_the_cosines_with_the_class_means(problem, make_engine, unseen, kind):
    method = LIFT(adapter=kind, scale=7.0)
    predictor = method.fit(problem, make_engine(Plan(epochs=0, batch_size=8))).eval()
    backbone = problem.backbone().eval()
    images = problem.train.with_transform(problem.preprocess)
    with torch.no_grad():
        features = backbone(torch.stack([images[i] for i in range(len(images))]))
        found = predictor(unseen)
        for column, c in zip(found.T, range(problem.counts.num_classes), strict=True):
            mean = features[torch.from_numpy(problem.train.labels == c)].mean(0)
            torch.testing.assert_close(column, 7 * F.cosine_similarity(backbone(unseen), mean[None]))


def pretrained_part(backbone):
    """Tensors and statistics of an adapted backbone without its adapters, under their names before."""
    state = backbone.state_dict().items()
    return {name.replace(".inner", ""): value for name, value in state if ".part." not in name}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_pretrained_stays_bit_for_bit(problem, make_engine, kind):
    backbone = LIFT(adapter=kind).fit(problem, make_engine()).network.backbone
    assert len(pretrained_part(backbone)) < len(backbone.state_dict())
    torch.testing.assert_close(pretrained_part(backbone), dict(problem.backbone().state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_a_pretrained_batch_norm_stay_where_they_are(kind):
    plain, side = opened("resnet8")
    before = copy.deepcopy(plain.state_dict())
    changed = adapted(plain, kind, 2, side, generator())
    set_modes(changed)
    changed(torch.randn(8, 3, side, side)).square().sum().backward()
    after = pretrained_part(changed)
    assert any(name.endswith("running_mean") for name in after)
    torch.testing.assert_close(after, dict(before), rtol=0, atol=0)


class Stops(Silent):
    def advance(self, step, loss=None):
        if loss is not None and step == 3:
            raise KeyboardInterrupt


def test_a_killed_run_ends_as_an_undisturbed_one(problem, make_engine, unseen):
    undisturbed = LIFT().fit(problem, make_engine()).eval()
    engine = make_engine(progress=Stops(), checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        LIFT().fit(problem, engine)
    resumed = LIFT().fit(problem, Engine(engine.run, engine.plan)).eval()
    torch.testing.assert_close(resumed(unseen), undisturbed(unseen), rtol=0, atol=0)


def test_a_budget_holds_for_features_and_training_together(problem, make_engine):
    whole = make_engine()
    LIFT().fit(problem, whole)
    limited = make_engine(Plan(flops=whole.flops, batch_size=8))
    LIFT().fit(problem, limited)
    assert 0.8 * whole.flops < limited.flops <= whole.flops


@pytest.mark.parametrize("option", [{"bottleneck": 0}, {"scale": 0.0}, {"tau": -1.0}])
def test_what_is_no_setting_is_refused(option):
    with pytest.raises(InputError, match=rf"method\.{next(iter(option))} = "):
        LIFT(**option)
