from __future__ import annotations

import pytest
import timm
import torch
from timm.models.resnet import BasicBlock, ResNet

from forktail.backbones.adapters import adapt
from forktail.backbones.open import BackboneSpec, open_backbone, save_backbone
from forktail.errors import InputError


@pytest.mark.parametrize(("name", "units", "features"), [("resnet18", 8, 512), ("resnet50", 16, 2048)])
def test_a_unit_for_every_residual_block(name, units, features):
    backbone = open_backbone(BackboneSpec(name, weights="random", drop_path=0.2))
    assert (backbone.depth, backbone.num_features) == (units, features)
    rates = [unit.drop_path.drop_prob for unit in backbone.units if unit.drop_path is not None]
    assert rates[-1] == pytest.approx(0.2)
    assert rates == sorted(rates)


def test_the_published_shapes_give_timms_own_features_bit_for_bit():
    torch.manual_seed(0)
    model = timm.create_model("resnet50", num_classes=0).eval()
    images = torch.randn(1, 3, 64, 64)
    expected = model(images)
    torch.testing.assert_close(adapt(model).eval()(images), expected, rtol=0, atol=0)


def test_the_stem_ends_before_the_first_block_and_nothing_behind_the_blocks_has_parameters():
    backbone = adapt(timm.create_model("resnet18", num_classes=0))
    assert [name for name, _ in backbone.stem.named_parameters()] == ["conv1.weight", "bn1.weight", "bn1.bias"]
    assert backbone.stem(torch.zeros(1, 3, 64, 64)).shape == (1, 64, 16, 16)
    assert list(backbone.readout.parameters()) == []
    assert "downsample.0.weight" in dict(backbone.units[2].named_parameters())


def test_a_unit_leaves_what_it_is_given_as_it_was():
    """Timm's activations work in place; two branches read the same hidden state."""
    backbone = open_backbone(BackboneSpec("resnet18", weights="random")).eval()
    hidden = backbone.stem(torch.randn(2, 3, 32, 32))
    for unit in backbone.units:
        before = hidden.clone()
        after = unit(hidden)
        torch.testing.assert_close(hidden, before, rtol=0, atol=0)
        hidden = after


@pytest.mark.parametrize("size", [32, 96])
def test_any_input_size_is_built_and_loaded(tmp_path, size):
    spec = BackboneSpec("resnet18", weights="random", input_size=size)
    stored = open_backbone(spec, seed=3).eval()
    save_backbone(tmp_path / "a.safetensors", stored, spec)
    opened = open_backbone(BackboneSpec(weights=str(tmp_path / "a.safetensors"), input_size=64)).eval()
    torch.testing.assert_close(opened.state_dict(), stored.state_dict(), rtol=0, atol=0)
    assert opened(torch.zeros(1, 3, 64, 64)).shape == (1, 512)


def test_a_model_without_pooling_is_refused():
    with pytest.raises(InputError, match="returns its feature map"):
        adapt(ResNet(BasicBlock, (1, 1, 1, 1), num_classes=0, global_pool=""))
