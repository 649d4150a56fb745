"""Every family answers the same questions; a new one joins by a row in ``MODELS``."""

from __future__ import annotations

import re
from functools import partial

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from forktail.backbones.adapters import adapt
from forktail.backbones.cifar_resnet import CifarResNet, cifar_resnet
from forktail.backbones.tiny import tiny
from forktail.errors import InputError

SMALL_VIT = partial(VisionTransformer, img_size=16, patch_size=4, embed_dim=12, depth=3, num_heads=3, num_classes=7)
SMALL_RESNET = partial(ResNet, BasicBlock, (1, 2, 1, 1), channels=(8, 8, 12, 16), num_classes=7)
MODELS = {
    "vit class token": (SMALL_VIT, 16),
    "vit average": (partial(SMALL_VIT, global_pool="avg"), 16),
    "vit average, no class token": (partial(SMALL_VIT, global_pool="avg", class_token=False), 16),
    "vit average, norm before pooling": (partial(SMALL_VIT, global_pool="avg", fc_norm=False), 16),
    "vit registers": (partial(SMALL_VIT, reg_tokens=2, no_embed_class=True), 16),
    "vit pre-norm": (partial(SMALL_VIT, pre_norm=True), 16),
    "vit layer scale, qk norm": (partial(SMALL_VIT, init_values=0.1, qk_norm=True), 16),
    "vit attention pooling": (partial(SMALL_VIT, global_pool="map", class_token=False), 16),
    "vit dropout everywhere": (
        partial(SMALL_VIT, drop_rate=0.3, pos_drop_rate=0.2, patch_drop_rate=0.5, drop_path_rate=0.5), 16,
    ),
    "vit any size": (partial(SMALL_VIT, dynamic_img_size=True), 24),
    "tiny": (tiny, 28),
    "resnet": (SMALL_RESNET, 32),
    "resnet bottlenecks": (partial(ResNet, Bottleneck, (1, 1, 2, 1), channels=(4, 4, 6, 8), num_classes=7), 32),
    "resnet deep stem, learnt pooling, averaged shortcut": (
        partial(SMALL_RESNET, stem_type="deep", stem_width=8, replace_stem_pool=True, avg_down=True), 32,
    ),
    "resnet two poolings": (partial(SMALL_RESNET, global_pool="catavgmax"), 48),
    "resnet dropout everywhere": (partial(SMALL_RESNET, drop_rate=0.3, drop_path_rate=0.5, drop_block_rate=0.1), 32),
    "resnet8": (partial(cifar_resnet, "resnet8"), 28),
    "resnet14, stochastic depth": (partial(cifar_resnet, "resnet14", drop_path=0.5), 32),
}  # fmt: skip


@pytest.fixture(params=MODELS)
def case(request):
    build, size = MODELS[request.param]
    torch.manual_seed(0)
    model = build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    return model, images


def features_of(model, images):
    if isinstance(model, CifarResNet):
        return model(images)
    return model.forward_head(model.forward_features(images), pre_logits=True)


@pytest.mark.parametrize("training", [False, True])
def test_features_are_those_of_the_model_bit_for_bit(case, training):
    model, images = case
    model.train(training)
    torch.manual_seed(2)
    expected = features_of(model, images)
    layered = adapt(model).train(training)
    torch.manual_seed(2)
    features = layered(images)
    assert features.shape == (2, layered.num_features)
    torch.testing.assert_close(features, expected, rtol=0, atol=0)


def test_no_parameter_is_lost_but_the_head(case):
    model, _ = case
    heads = ("head.", "fc.")
    expected = {id(parameter) for name, parameter in model.named_parameters() if not name.startswith(heads)}
    assert {id(parameter) for parameter in adapt(model).parameters()} == expected


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith(("vit", "tiny", "resnet "))] + ["resnet"])
def test_units_agree_with_timm(name):
    model = MODELS[name][0]()
    # timm counts the final norm to the last block; here it belongs to the readout, as everything behind it.
    readout = re.compile(r"norm\.|fc_norm\.|attn_pool\.|head\.|fc\.")
    theirs = group_parameters(model, model.group_matcher(), reverse=True)
    by_parameter = {id(parameter): name for name, parameter in model.named_parameters()}
    blocks = max(group for name, group in theirs.items() if not readout.match(name))
    layered = adapt(model)
    assert layered.depth == blocks
    for name, parameter in layered.named_parameters():
        full = by_parameter[id(parameter)]
        assert layered.unit_of(name) == (blocks + 1 if readout.match(full) else theirs[full]), full


def test_unit_of_unknown_name_is_refused(case):
    with pytest.raises(ValueError, match="no parameter"):
        adapt(case[0]).unit_of("units.99.weight")


@pytest.mark.parametrize(
    "build",
    [
        nn.Identity,
        partial(timm.create_model, "convnext_atto"),
        partial(timm.create_model, "deit_tiny_distilled_patch16_224"),
    ],
)
def test_families_without_adapter_are_refused(build):
    with pytest.raises(InputError, match="no adapter yet"):
        adapt(build())
