"""Few trained parameters in a backbone that is frozen: AdaptFormer's bottlenecks and LoRA, both zero at first.

Legend: B images of a batch, N tokens, D features of a unit, H and W height and width of a feature map, r bottleneck.
"""

from __future__ import annotations

import copy
import math
from typing import Literal, TypeVar, final

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from forktail.backbones.layered import Layered
from forktail.training.objective import freeze

Kind = Literal["adaptformer", "lora"]

M = TypeVar("M", bound=nn.Module)


def adapted(backbone: Layered, kind: Kind, bottleneck: int, side: int, generator: torch.Generator) -> Layered:
    """Freeze a backbone and put trained parts into every unit, which change nothing yet.

    ``adaptformer`` puts a bottleneck beside the MLP of a transformer block, on the tokens that the block's own norm
    gives the MLP (Chen et al. 2022, eqs. 1 to 3), and behind any other unit, across its channels. ``lora`` puts one
    beside each linear map and convolution (Hu et al. 2022, eq. 3, without a factor of its own).

    Args:
        backbone: The chain; its parts become those of the result.
        kind: Which parts.
        bottleneck: r.
        side: Height and width of the inputs in pixels.
        generator: Where the first half of each part is drawn from.

    Returns:
        A chain with the same outputs, in which the parts alone are trained.
    """
    widths = unit_widths(backbone, side)
    freeze(backbone)
    if kind == "lora":
        units = [_with_low_rank(unit, bottleneck, generator) for unit in backbone.units]
    else:
        adapters = [Bottleneck(width, bottleneck, generator) for width in widths]
        units = [_with_bottleneck(unit, adapter) for unit, adapter in zip(backbone.units, adapters, strict=True)]
    return Layered(backbone.stem, units, backbone.readout, num_features=backbone.num_features)


@torch.no_grad()
def unit_widths(backbone: Layered, side: int) -> list[int]:
    """Say how many features each unit returns; nothing is computed.

    Args:
        backbone: The chain.
        side: Height and width of the inputs in pixels.

    Returns:
        D of every unit: channels of a feature map, else the last dimension.

    Example:
        >>> chain = Layered(nn.Flatten(), [nn.Linear(12, 4), nn.Linear(4, 5)], nn.Identity(), num_features=5)
        >>> unit_widths(chain, side=2)
        [4, 5]
    """
    traced = copy.deepcopy(backbone).to("meta").eval()
    hidden = traced.stem(torch.empty((1, 3, side, side), device="meta"))
    widths = []
    for unit in traced.units:
        hidden = unit(hidden)
        widths.append(hidden.shape[1] if hidden.ndim == 4 else hidden.shape[-1])
    return widths


@final
class Bottleneck(nn.Module):
    r"""$s\, W_{up}\, \mathrm{relu}(W_{down}\, \mathrm{LN}(h))$ with $W_{up} = 0$ and a learned s = 1 at first.

    Args:
        width: D.
        bottleneck: r.
        generator: Where W_down is drawn from.

    Example:
        >>> Bottleneck(4, 2, torch.Generator())(torch.ones(3, 4)).abs().sum().item()
        0.0
    """

    def __init__(self, width: int, bottleneck: int, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down = _drawn(_empty(nn.Linear(width, bottleneck, device="meta")), generator)
        self.up = _zero(_empty(nn.Linear(bottleneck, width, device="meta")))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., D) features, or a (B, D, H, W) feature map, to what is added to them."""
        if hidden.ndim == 4:
            return self._change(hidden.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self._change(hidden)

    def _change(self, features: Tensor) -> Tensor:
        change: Tensor = self.scale * self.up(torch.relu(self.down(self.norm(features))))
        return change


@final
class Beside(nn.Module):
    """f(h) + a(h): a part beside a frozen module, on the same input.

    Args:
        inner: f.
        part: a.
    """

    def __init__(self, inner: nn.Module, part: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.part = part

    def forward(self, hidden: Tensor) -> Tensor:
        """Add both."""
        total: Tensor = self.inner(hidden) + self.part(hidden)
        return total


@final
class Behind(nn.Module):
    """f(h) + a(f(h)): a part behind a frozen module, with a shortcut round it.

    Args:
        inner: f.
        part: a.
    """

    def __init__(self, inner: nn.Module, part: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.part = part

    def forward(self, hidden: Tensor) -> Tensor:
        """Add the change to the output."""
        output = self.inner(hidden)
        total: Tensor = output + self.part(output)
        return total


def low_rank(layer: nn.Linear | nn.Conv2d, rank: int, generator: torch.Generator) -> nn.Sequential:
    """Build a map of rank r from a layer's inputs to its outputs, zero at first.

    Args:
        layer: A linear map, or a convolution, whose kernel the first half takes over.
        rank: r.
        generator: Where the first half is drawn from.

    Returns:
        Both halves.

    Example:
        >>> [tuple(half.weight.shape) for half in low_rank(nn.Conv2d(3, 8, 5), 2, torch.Generator())]
        [(2, 3, 5, 5), (8, 2, 1, 1)]
    """
    down: nn.Module
    up: nn.Module
    if isinstance(layer, nn.Linear):
        down = nn.Linear(layer.in_features, rank, bias=False, device="meta")
        up = nn.Linear(rank, layer.out_features, bias=False, device="meta")
    else:
        down = nn.Conv2d(
            layer.in_channels,
            rank,
            layer.kernel_size,  # type: ignore[arg-type] # a pair, though typed as any tuple
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation,  # type: ignore[arg-type]
            bias=False,
            device="meta",
        )
        up = nn.Conv2d(rank, layer.out_channels, 1, bias=False, device="meta")
    return nn.Sequential(_drawn(_empty(down), generator), _zero(_empty(up)))


def _with_bottleneck(unit: nn.Module, adapter: Bottleneck) -> nn.Module:
    if not isinstance(unit, Block):
        return Behind(unit, adapter)
    unit.mlp = Beside(unit.mlp, adapter)
    return unit


def _with_low_rank(unit: nn.Module, rank: int, generator: torch.Generator) -> nn.Module:
    holder = nn.ModuleList([unit])  # the unit itself may be a linear map
    for parent in list(holder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear | nn.Conv2d):
                setattr(parent, name, Beside(child, low_rank(child, rank, generator)))
    (adapted_unit,) = holder
    return adapted_unit


def _empty(layer: M) -> M:
    """Give a layer storage; PyTorch's own initial values would draw from the global generator."""
    return layer.to_empty(device="cpu")


def _drawn(layer: M, generator: torch.Generator) -> M:
    for parameter in layer.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_uniform_(parameter, a=math.sqrt(5), generator=generator)
        else:
            nn.init.zeros_(parameter)
    return layer


def _zero(layer: M) -> M:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
