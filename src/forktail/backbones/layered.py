"""A backbone as an ordered chain of layers, which is what can be forked at a depth.

Legend: B images of a batch, L units, D features.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

from torch import Tensor, nn


@final
class Layered(nn.Module):
    """A backbone cut into stem, units 1..L and readout, the chain that forks at a depth (docs/theory.md).

    The chain index of a layer is 0 for the stem, 1..L for the units and L + 1 for the readout. What travels between
    the units is whatever the stem returns: a tensor for pictures, hidden states and mask for text.

    Args:
        stem: Inputs to the first hidden state (patch and position embedding, class token).
        units: The L units in the order in which they run; each takes and returns a hidden state.
        readout: Last hidden state to ``(B, D)`` features (final norm, pooling); never shared between tasks.
        num_features: D.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> chain = Layered(nn.Flatten(), [nn.Linear(4, 4), nn.ReLU()], nn.Identity(), num_features=4)
        >>> chain.depth, chain(torch.zeros(3, 2, 2)).shape
        (2, torch.Size([3, 4]))
    """

    def __init__(self, stem: nn.Module, units: Iterable[nn.Module], readout: nn.Module, *, num_features: int) -> None:
        super().__init__()
        self.stem = stem
        self.units = nn.ModuleList(units)
        self.readout = readout
        self.num_features = num_features

    @property
    def depth(self) -> int:
        """The number of units, L: the deepest point at which the chain can fork."""
        return len(self.units)

    def forward(self, inputs: Any) -> Tensor:
        """Map inputs to features.

        Args:
            inputs: What the stem takes, usually ``(B, 3, height, width)`` pictures.

        Returns:
            ``(B, D)`` features.
        """
        hidden = self.stem(inputs)
        for unit in self.units:
            hidden = unit(hidden)
        features: Tensor = self.readout(hidden)
        return features

    def unit_of(self, parameter_name: str) -> int:
        """Say to which layer a parameter belongs.

        Args:
            parameter_name: A name as in ``named_parameters()``.

        Returns:
            0 for the stem, 1..L for a unit, L + 1 for the readout.

        Raises:
            ValueError: If the backbone has no such parameter.

        Example:
            >>> from torch import nn
            >>> Layered(nn.Identity(), [nn.Linear(4, 4)], nn.LayerNorm(4), num_features=4).unit_of("units.0.bias")
            1
        """
        if parameter_name not in dict(self.named_parameters()):
            raise ValueError(f'the backbone has no parameter named "{parameter_name}"')
        part, _, rest = parameter_name.partition(".")
        return {"stem": 0, "readout": self.depth + 1}[part] if part != "units" else int(rest.split(".")[0]) + 1
