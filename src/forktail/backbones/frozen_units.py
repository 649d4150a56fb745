"""The first units of a chain as a part of its stem, for a chain whose depth begins behind them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from forktail.backbones.layered import Layered
from forktail.errors import InputError


class LongStem(nn.Module):
    """A stem with the units that count as a part of it.

    Args:
        stem: The stem.
        units: The units behind it.
    """

    def __init__(self, stem: nn.Module, units: Iterable[nn.Module]) -> None:
        super().__init__()
        self.stem = stem
        self.units = nn.ModuleList(units)

    def forward(self, inputs: Any) -> Any:
        """Map inputs to the hidden state behind the last of the units."""
        hidden = self.stem(inputs)
        for unit in self.units:
            hidden = unit(hidden)
        return hidden


def with_long_stem(backbone: Layered, units: int) -> Layered:
    """Move the first units into the stem.

    Args:
        backbone: The chain; it gives its parts away and must not be used afterwards.
        units: How many; 0 returns the chain as it is.

    Returns:
        The same computation with fewer units.

    Raises:
        InputError: If no unit would be left.

    Example:
        >>> chain = Layered(nn.Identity(), [nn.Linear(4, 4), nn.ReLU()], nn.Identity(), num_features=4)
        >>> with_long_stem(chain, 1).depth
        1
    """
    if units == 0:
        return backbone
    if units >= backbone.depth:
        raise InputError(
            f"backbone.frozen_units = {units} of a backbone of {backbone.depth} units",
            expected=f"0 to {backbone.depth - 1}, so that one is left to train",
        )
    stem = LongStem(backbone.stem, backbone.units[:units])
    return Layered(stem, backbone.units[units:], backbone.readout, num_features=backbone.num_features)
