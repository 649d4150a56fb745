"""``tiny``: a vision transformer small enough to train in minutes on a processor, with a convolutional stem."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from forktail.errors import InputError

INPUT_SIZE = 28
STRIDE = 4


class _ConvStem(nn.Module):
    """Three 3x3 convolutions in place of a patch embedding, 4 pixels to a token; for timm's ``embed_layer``.

    Convolutions see the strokes that a 4x4 patch cuts, which a small transformer would need many images to relearn.
    """

    def __init__(self, img_size: int, in_chans: int, embed_dim: int, **_timm: Any) -> None:
        super().__init__()
        self.set_input_size(img_size)
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, embed_dim // 2, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(embed_dim // 2, embed_dim, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(embed_dim, embed_dim, 3, padding=1),
        )
        # PyTorch's own initial kernels shrink the signal tenfold over three layers, and training stands still for long.
        for layer in self.proj:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def set_input_size(self, img_size: int | tuple[int, int], patch_size: None = None) -> None:
        """Set the input's height and width; timm resizes the position embedding to ``grid_size`` afterwards."""
        self.img_size = img_size if isinstance(img_size, tuple) else (img_size, img_size)
        if self.img_size[0] % STRIDE or self.img_size[1] % STRIDE:
            raise InputError(f"input size {img_size} for the tiny backbone", expected=f"a multiple of {STRIDE} pixels")
        self.patch_size = (STRIDE, STRIDE)
        self.grid_size = (self.img_size[0] // STRIDE, self.img_size[1] // STRIDE)
        self.num_patches = self.grid_size[0] * self.grid_size[1]

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return tokens


def tiny(*, input_size: int = INPUT_SIZE, drop_path: float = 0.0) -> VisionTransformer:
    """Build the ``tiny`` backbone with random weights: 6 blocks of 64 features, 4 heads, average pooling.

    Args:
        input_size: Side of the square RGB input in pixels, a multiple of 4.
        drop_path: Rate of stochastic depth at the last block, in [0, 1).

    Returns:
        timm's vision transformer without classifier, about 0.36 million parameters.

    Example:
        >>> round(sum(p.numel() for p in tiny().parameters()) / 1e6, 2)
        0.36
    """
    return VisionTransformer(
        img_size=input_size,
        patch_size=STRIDE,
        num_classes=0,
        global_pool="avg",
        embed_dim=64,
        depth=6,
        num_heads=4,
        class_token=False,
        fc_norm=True,
        drop_path_rate=drop_path,
        embed_layer=_ConvStem,
    )
