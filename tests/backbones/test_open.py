from __future__ import annotations

from dataclasses import replace

import pytest
import safetensors.torch
import timm
import torch

from forktail.backbones import open as module
from forktail.backbones.open import BackboneSpec, architecture, input_facts, open_backbone, save_backbone
from forktail.backbones.tiny import tiny
from forktail.errors import InputError

TINY = BackboneSpec("tiny", weights="random")


def assert_equal_states(left, right):
    torch.testing.assert_close(left.state_dict(), right.state_dict(), rtol=0, atol=0)


def test_same_seed_same_weights_other_seed_other_weights():
    first, again, other = (open_backbone(TINY, seed) for seed in (3, 3, 4))
    assert_equal_states(first, again)
    assert not torch.equal(first.units[0].attn.qkv.weight, other.units[0].attn.qkv.weight)


def test_global_generator_is_left_alone():
    before = torch.get_rng_state()
    open_backbone(TINY, seed=3)
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)


def test_timm_model_is_built_without_download():
    backbone = open_backbone(BackboneSpec("vit_tiny_patch16_224", drop_path=0.2, input_size=32), seed=0)
    assert (backbone.depth, backbone.num_features) == (12, 192)
    assert backbone.stem.embed.pos_embed.shape == (1, 5, 192)
    assert backbone.units[-1].drop_path1.drop_prob == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (BackboneSpec("tinny"), 'did you mean "tiny"'),
        (BackboneSpec("vit_base_patch16_22"), 'did you mean "vit_base_patch16_224"'),
        (BackboneSpec("vit_base_patch16_224.mea"), 'did you mean "vit_base_patch16_224.mae"'),
        (BackboneSpec(""), "no backbone named"),
        (BackboneSpec("qqqq"), "one of: tiny, "),
        (BackboneSpec("convnext_atto"), "no adapter yet"),
        (BackboneSpec("vit_tiny_patch16_224", weights="embedded"), "only one with embedded weights"),
        (BackboneSpec("tiny", weights="no/such/file.pth"), "no file no/such/file.pth"),
        (replace(TINY, input_size=30), "a multiple of 4"),
        (BackboneSpec("vit_tiny_patch16_224", input_size=5), "expected 32 pixels or more"),
        (BackboneSpec("tests"), "is a file or folder that is not called like weights"),
    ],
)
def test_bad_specs_are_refused(spec, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    with pytest.raises(InputError, match=message):
        open_backbone(spec)


def test_missing_embedded_weights_are_an_error_not_random_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EMBEDDED", tmp_path / "tiny.safetensors")
    with pytest.raises(InputError, match="not part of this installation"):
        open_backbone(BackboneSpec("tiny"))


@pytest.mark.parametrize("weights", [None, "embedded"])
def test_embedded_weights_are_loaded(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(module, "EMBEDDED", tmp_path / "tiny.safetensors")
    stored = open_backbone(TINY, seed=7)
    save_backbone(tmp_path / "tiny.safetensors", stored, TINY)
    assert_equal_states(open_backbone(BackboneSpec("tiny", weights=weights), seed=0), stored)


def test_saved_file_names_its_architecture(tmp_path):
    spec = replace(TINY, input_size=32, drop_path=0.1)
    stored = open_backbone(spec, seed=7)
    file = str(tmp_path / "backbone.safetensors")
    save_backbone(file, stored, spec)
    opened = BackboneSpec.parse(file)
    assert architecture(opened) == BackboneSpec("tiny", weights="random", input_size=32)
    assert_equal_states(open_backbone(opened), stored)
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.safetensors"]


def test_saved_file_can_be_loaded_into_timms_model(tmp_path):
    stored = open_backbone(TINY, seed=7)
    save_backbone(tmp_path / "a.safetensors", stored, TINY)
    model = tiny()
    model.load_state_dict(safetensors.torch.load_file(tmp_path / "a.safetensors"), strict=True)
    torch.testing.assert_close(model.blocks.state_dict(), stored.units.state_dict(), rtol=0, atol=0)


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path):
    stored = open_backbone(TINY, seed=7)
    save_backbone(tmp_path / "full.safetensors", stored, TINY)
    save_backbone(tmp_path / "half.safetensors", stored, TINY, torch.bfloat16)
    sizes = [(tmp_path / name).stat().st_size for name in ("half.safetensors", "full.safetensors")]
    assert sizes[0] < 0.51 * sizes[1]
    opened = open_backbone(BackboneSpec(weights=str(tmp_path / "half.safetensors")))
    assert {parameter.dtype for parameter in opened.parameters()} == {torch.float32}
    torch.testing.assert_close(opened.state_dict(), stored.state_dict(), rtol=2**-8, atol=0)


def test_loaded_positions_are_resized_to_another_input_size(tmp_path):
    stored = open_backbone(TINY, seed=7)
    save_backbone(tmp_path / "a.safetensors", stored, TINY)
    opened = open_backbone(BackboneSpec(weights=str(tmp_path / "a.safetensors"), input_size=56))
    assert opened(torch.zeros(1, 3, 56, 56)).shape == (1, 64)
    assert opened.stem.embed.pos_embed.shape == (1, 14 * 14, 64)
    # Enlarged by interpolation: neighbours in one old cell are close, the mean survives.
    torch.testing.assert_close(
        opened.stem.embed.pos_embed.mean(1), stored.stem.embed.pos_embed.mean(1), rtol=0, atol=5e-3
    )


def test_file_without_architecture_needs_a_name(tmp_path):
    torch.save(tiny().state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"nor by .*a\.pth"):
        open_backbone(BackboneSpec.parse(str(tmp_path / "a.pth")))


def test_only_a_name_that_names_weights_asks_for_pretrained_ones(tmp_path, monkeypatch):
    asked = []

    def create_model(name, *, pretrained, **_):
        asked.append((name, pretrained))
        return tiny()

    monkeypatch.setattr(timm, "create_model", create_model)
    file = str(tmp_path / "a.safetensors")
    save_backbone(file, open_backbone(TINY), TINY)
    for weights in (None, "random", file):
        for name in ("vit_base_patch16_224", "vit_base_patch16_224.mae"):
            open_backbone(BackboneSpec(name, weights=weights))
    assert [name for name, pretrained in asked if pretrained] == ["vit_base_patch16_224.mae"]


def test_what_a_backbone_is_can_be_asked_before_its_embedded_weights_exist(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EMBEDDED", tmp_path / "tiny.safetensors")
    assert architecture(BackboneSpec("tiny")) == TINY
    assert input_facts(BackboneSpec("tiny")) == input_facts(TINY)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_drop_path_that_is_no_rate_is_refused(rate):
    with pytest.raises(InputError, match="from 0 to below 1"):
        BackboneSpec("tiny", drop_path=rate)


@pytest.mark.parametrize("size", [0, -28, 10**9])
def test_an_input_size_that_is_no_number_of_pixels_is_refused(size):
    with pytest.raises(InputError, match=r"backbone\.input_size .*; expected 1 to 8192 pixels"):
        BackboneSpec("tiny", input_size=size)


@pytest.mark.parametrize("given", [{"name": "\udcff"}, {"weights": "\udcff.pth"}])
def test_a_name_that_is_no_unicode_is_refused_because_the_recipe_could_not_hold_it(given):
    with pytest.raises(InputError, match="in Unicode; rename the file"):
        BackboneSpec(**given)


def test_input_facts():
    half = (0.5, 0.5, 0.5)
    expected = {"size": 28, "mean": half, "std": half, "interpolation": "bicubic", "crop": 1.0}
    assert input_facts(TINY) == expected
    assert input_facts(replace(TINY, input_size=32)) == expected | {"size": 32}
    plain = {"size": 224, "mean": half, "std": half, "interpolation": "bicubic", "crop": 0.9}
    assert input_facts(BackboneSpec("vit_base_patch16_224")) == plain
    # A tag decides the normalisation, also where the weights come from a file or are random.
    assert input_facts(BackboneSpec("vit_base_patch16_224.mae"))["mean"] == (0.485, 0.456, 0.406)
    with pytest.raises(InputError, match="no backbone named"):
        input_facts(BackboneSpec("vit_bas_patch16_224"))


def test_architecture_keeps_what_shapes_the_network():
    spec = BackboneSpec("vit_base_patch16_224.mae", drop_path=0.1, input_size=384)
    assert architecture(spec) == replace(spec, weights="random")
