from __future__ import annotations

import pytest
import torch

from forktail.backbones.frozen_units import with_long_stem
from forktail.backbones.open import BackboneSpec, open_backbone, save_backbone
from forktail.backbones.vit import prefix_tokens
from forktail.errors import InputError


def test_the_computation_stays_and_the_units_are_numbered_anew():
    whole = open_backbone(BackboneSpec("tiny", weights="random")).eval()
    short = open_backbone(BackboneSpec("tiny", weights="random", frozen_units=4)).eval()
    assert (whole.depth, short.depth) == (6, 2)
    pictures = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(short(pictures), whole(pictures))
    assert short.unit_of("stem.units.3.mlp.fc1.weight") == 0
    assert short.unit_of("units.0.mlp.fc1.weight") == 1


def test_a_file_holds_the_whole_backbone_under_the_usual_names(tmp_path):
    spec = BackboneSpec("tiny", weights="random", frozen_units=2)
    short = open_backbone(spec, seed=5).eval()
    save_backbone(tmp_path / "a.safetensors", short, spec)
    whole = open_backbone(BackboneSpec(weights=str(tmp_path / "a.safetensors"))).eval()
    pictures = torch.randn(1, 3, 28, 28)
    assert whole.depth == 6
    torch.testing.assert_close(whole(pictures), short(pictures))


def test_a_unit_is_left_to_train():
    backbone = open_backbone(BackboneSpec("tiny", weights="random"))
    assert with_long_stem(backbone, 0) is backbone
    with pytest.raises(InputError, match=r"frozen_units = 6 of a backbone of 6 units; expected 0 to 5"):
        with_long_stem(backbone, 6)


@pytest.mark.parametrize(("name", "frozen", "tokens"), [("tiny", 0, 0), ("tiny", 2, 0), ("vit_tiny_patch16_224", 2, 1)])
def test_tokens_before_the_patches_are_known_behind_a_long_stem(name, frozen, tokens):
    assert prefix_tokens(open_backbone(BackboneSpec(name, weights="random", frozen_units=frozen))) == tokens


def test_a_backbone_without_tokens_has_none_before_the_patches():
    assert prefix_tokens(open_backbone(BackboneSpec("resnet8"))) == 0
