"""The family of plain vision transformers, as timm builds them."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import VisionTransformer, global_pool_nlc
from torch import Tensor, nn

from forktail.backbones.adapters import adapts
from forktail.backbones.frozen_units import LongStem
from forktail.backbones.layered import Layered
from forktail.errors import InputError


def prefix_tokens(backbone: Layered) -> int:
    """Say how many tokens stand before the patches.

    Args:
        backbone: Any chain.

    Returns:
        Their number; 0 of a backbone that has no tokens.
    """
    stem = backbone.stem.stem if isinstance(backbone.stem, LongStem) else backbone.stem
    return stem.num_prefix_tokens if isinstance(stem, VitStem) else 0


class VitStem(nn.Module):
    """What timm runs before its first block: patches, tokens, positions, patch dropout, norm."""

    def __init__(self, embed: VisionTransformer) -> None:
        super().__init__()
        self.embed = embed
        self.num_patches = int(embed.patch_embed.num_patches)
        self.num_prefix_tokens = int(embed.num_prefix_tokens)

    def forward(self, images: Tensor) -> Tensor:
        """Turn (B, 3, H, W) pictures into (B, tokens, D) hidden states, prefix tokens first."""
        hidden: Tensor = self.embed.forward_features(images)
        return hidden


class VitReadout(nn.Module):
    """What timm runs after its last block and before the classifier: norm, pooling, norm, dropout."""

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        self.norm = model.norm
        self.attn_pool: nn.Module | None = model.attn_pool
        self.fc_norm = model.fc_norm
        self.head_drop = model.head_drop
        self.pool_type = model.global_pool
        self.num_prefix_tokens = model.num_prefix_tokens
        self.pool_include_prefix = model.pool_include_prefix

    def forward(self, hidden: Tensor) -> Tensor:
        """Turn (B, tokens, D) hidden states into (B, D) features."""
        features: Tensor = self.head_drop(self.fc_norm(self._pool(self.norm(hidden))))
        return features

    def _pool(self, hidden: Tensor) -> Tensor:
        pooled: Tensor
        if self.attn_pool is not None:
            pooled = self.attn_pool(hidden if self.pool_include_prefix else hidden[:, self.num_prefix_tokens :])
        else:
            pooled = global_pool_nlc(hidden, self.pool_type, self.num_prefix_tokens, self.pool_include_prefix)
        return pooled


@adapts("timm.models.vision_transformer.VisionTransformer")
def vit(model: Any) -> Layered:
    """Cut timm's ``VisionTransformer`` into stem, blocks and readout.

    timm's own object stays in the stem with its later parts taken out, so that class and register tokens, position
    embedding and patch dropout remain timm's code. The final norm belongs to the readout, which no two tasks share.

    Args:
        model: The transformer; it is emptied.

    Returns:
        The chain, with as many units as the model has blocks.

    Raises:
        InputError: If the model does not pool its tokens into one feature vector.

    Example:
        >>> import torch
        >>> model = VisionTransformer(img_size=8, patch_size=4, embed_dim=12, depth=2, num_heads=3)
        >>> vit(model)(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 12])
    """
    if not model.global_pool:
        raise InputError(
            "a vision transformer that returns all its tokens (global_pool is empty)",
            expected="one feature vector per image",
            remedy="build it with global_pool='avg' or 'token'",
        )
    units, readout = list(model.blocks), VitReadout(model)
    model.blocks, model.attn_pool = nn.Sequential(), None
    model.norm, model.fc_norm, model.head_drop, model.head = (nn.Identity() for _ in range(4))
    return Layered(VitStem(model), units, readout, num_features=model.num_features)
