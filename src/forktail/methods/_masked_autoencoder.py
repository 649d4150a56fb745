"""Masked auto-encoding of a vision transformer on pictures without labels."""

from __future__ import annotations

from typing import final

import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from torch import Tensor, nn

from forktail.backbones.frozen_units import LongStem
from forktail.backbones.layered import Layered
from forktail.backbones.vit import VitReadout, VitStem
from forktail.errors import InputError
from forktail.training.objective import Batch, Objective

VARIANCE_FLOOR = 1e-6  # of a patch without contrast, as in the authors' code


def patches_of(images: Tensor, side: int) -> Tensor:
    """Cut pictures into square patches, pixels in the order (row, column, channel).

    He et al. 2022, section 3 ("Reconstruction target").

    Args:
        images: (B, 3, H, W) pictures.
        side: Pixels along a patch's edge; divides H and W.

    Returns:
        (B, T, side * side * 3) patches, row by row.

    Example:
        >>> patches_of(torch.zeros(2, 3, 28, 28), 4).shape
        torch.Size([2, 49, 48])
    """
    batch, channels, height, width = images.shape
    grid = images.reshape(batch, channels, height // side, side, width // side, side)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, side * side * channels)


def normalised(patches: Tensor) -> Tensor:
    """Give every patch zero mean and unit variance (the unbiased one).

    He et al. 2022, section 3: (x - mean) / sqrt(var + 1e-6).

    Args:
        patches: (B, T, P) pixels.

    Returns:
        (B, T, P) targets.
    """
    mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (variance + VARIANCE_FLOOR).sqrt()


def removed_patch_error(predicted: Tensor, target: Tensor, removed: Tensor) -> Tensor:
    """Mean squared error over the removed patches of each image.

    He et al. 2022, section 3.

    Args:
        predicted: (B, T, P) pixels that the decoder says.
        target: (B, T, P) normalised pixels.
        removed: (B, T) bool, True where a patch was removed.

    Returns:
        (B,) errors in squared normalised grey levels.
    """
    per_patch = (predicted - target).square().mean(-1)
    return (per_patch * removed).sum(1) / removed.sum(1)


@final
class MaskedAutoencoder(Objective):
    """Predict the normalised pixels of patches that the encoder never saw.

    The removed pixels are set to zero before the stem, too: a convolutional stem would otherwise carry them into the
    tokens of their neighbours. The decoder sees patches alone: class token and registers are dropped before it, where
    the authors' decoder takes the class token along.

    Args:
        backbone: A vision transformer; its stem, units and final norm are the encoder.
        image_side: Pixels along a picture's edge.
        mask: Share of the patches that is removed, in (0, 1).
        width: Features of the decoder; a multiple of 4, for its fixed sines and cosines of place.
        depth: Blocks of the decoder.
        heads: Attention heads of the decoder.
        seed: Seed of the decoder's initial weights.

    Raises:
        InputError: If the backbone is not a plain vision transformer.
    """

    position: Tensor

    def __init__(
        self,
        backbone: Layered,
        *,
        image_side: int,
        mask: float = 0.75,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(backbone.stem, LongStem):
            raise InputError(
                "masked auto-encoding with backbone.frozen_units",
                expected="a transformer of which all is trained",
                remedy="set backbone.frozen_units=0, or method.pretraining_epochs=0",
            )
        if not isinstance(backbone.stem, VitStem) or not isinstance(backbone.readout, VitReadout):
            raise InputError(
                "masked auto-encoding with this backbone",
                expected="a plain vision transformer, such as tiny",
                remedy="the methods mae and livt do without it where method.pretraining_epochs = 0",
            )
        self.backbone = backbone
        # The encoder's last layer; what comes after it pools the tokens. Where pooling comes first and its norm after,
        # the decoder brings one for tokens.
        norm = backbone.readout.norm
        self.norm = nn.LayerNorm(backbone.num_features) if isinstance(norm, nn.Identity) else norm
        self.mask = mask
        tokens = backbone.stem.num_patches
        self.prefix = backbone.stem.num_prefix_tokens
        self.side = round(image_side / tokens**0.5)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            block = nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.embed = nn.Linear(backbone.num_features, width)
            self.mask_token = nn.Parameter(torch.zeros(width).normal_(std=0.02))
            self.decoder = nn.TransformerEncoder(block, depth, nn.LayerNorm(width), enable_nested_tensor=False)
            self.pixels = nn.Linear(width, self.side * self.side * 3)
        grid = round(tokens**0.5)
        self.register_buffer("position", build_sincos2d_pos_embed([grid, grid], width))

    def extra_repr(self) -> str:
        """Say what the fingerprint of a stage has to know."""
        return f"mask={self.mask}, side={self.side}"

    def forward(self, batch: Batch) -> Tensor:
        """Return the (B,) errors on removed patches."""
        removed = self.draw(len(batch.inputs), batch.generator).to(batch.inputs.device)
        predicted = self.reconstruct(batch.inputs, removed)
        return removed_patch_error(predicted, normalised(patches_of(batch.inputs, self.side)), removed)

    def draw(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Draw which patches are removed, the same number in every image.

        Args:
            num_images: B.
            generator: Source of chance.

        Returns:
            (B, T) bool.
        """
        tokens = len(self.position)
        rank = torch.rand(num_images, tokens, generator=generator, device=generator.device).argsort(1).argsort(1)
        return rank < round(self.mask * tokens)

    def reconstruct(self, inputs: Tensor, removed: Tensor) -> Tensor:
        """Encode the patches that are left and decode all.

        Args:
            inputs: (B, 3, H, W) pictures.
            removed: (B, T) bool, the same number in every row.

        Returns:
            (B, T, P) predicted pixels.
        """
        batch, tokens = removed.shape
        grid = round(tokens**0.5)
        hole = removed.reshape(batch, 1, grid, grid).repeat_interleave(self.side, 2).repeat_interleave(self.side, 3)
        hidden = self.backbone.stem(inputs.masked_fill(hole, 0.0))
        prefix, patches = hidden[:, : self.prefix], hidden[:, self.prefix :]
        left = removed.to(torch.uint8).argsort(stable=True, dim=1)[:, : tokens - round(self.mask * tokens)]
        hidden = torch.cat([prefix, patches.gather(1, left.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))], dim=1)
        for unit in self.backbone.units:
            hidden = unit(hidden)
        seen = self.embed(self.norm(hidden)[:, self.prefix :])
        places = left.unsqueeze(-1).expand(-1, -1, seen.shape[-1])
        full = self.mask_token.expand(batch, tokens, -1).scatter(1, places, seen)
        decoded: Tensor = self.pixels(self.decoder(full + self.position))
        return decoded
