"""What only vision transformers have; the questions that every family answers stand in test_adapters."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from forktail.backbones.vit import vit
from forktail.errors import InputError

SMALL = partial(VisionTransformer, img_size=16, patch_size=4, embed_dim=12, depth=3, num_heads=3, num_classes=7)


def test_vit_that_does_not_pool_is_refused():
    with pytest.raises(InputError, match="all its tokens"):
        vit(SMALL(global_pool=""))


def test_tokens_and_positions_belong_to_the_stem_and_every_norm_behind_the_blocks_to_the_readout():
    backbone = vit(SMALL(reg_tokens=2, pre_norm=True))
    assert {name for name, _ in backbone.stem.named_parameters()} == {
        "embed.cls_token",
        "embed.reg_token",
        "embed.pos_embed",
        "embed.patch_embed.proj.weight",
        "embed.norm_pre.weight",
        "embed.norm_pre.bias",
    }
    assert {name for name, _ in backbone.readout.named_parameters()} == {"norm.weight", "norm.bias"}


def test_what_travels_between_units_is_all_tokens():
    backbone = vit(SMALL(reg_tokens=2))
    shapes = []
    for unit in backbone.units:
        unit.register_forward_hook(lambda _, given, returned: shapes.append((given[0].shape, returned.shape)))
    backbone(torch.zeros(5, 3, 16, 16))
    assert shapes == [((5, 1 + 2 + 16, 12), (5, 1 + 2 + 16, 12))] * 3


def test_stochastic_depth_grows_to_its_rate():
    rates = [getattr(unit.drop_path1, "drop_prob", 0.0) for unit in vit(SMALL(drop_path_rate=0.4)).units]
    assert rates == pytest.approx([0.0, 0.2, 0.4])
