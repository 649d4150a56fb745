"""A copy of a module that follows it slowly: EMA of weights, and the momentum encoder of contrastive learning."""

from __future__ import annotations

import copy
from typing import final

import torch
from torch import nn

from forktail.training.objective import freeze


@final
class MovingAverage(nn.Module):
    """theta' <- m theta' + (1 - m) theta after every step, buffers included; never trained itself.

    It is part of the objective, so that it is saved, moved and resumed with it. Whole-number buffers, such as a count
    of batches, are copied.

    Args:
        source: The module to follow; the average begins as its copy.
        decay: m, in [0, 1).

    Example:
        >>> source = nn.Linear(1, 1, bias=False)
        >>> average = MovingAverage(source, decay=0.75)
        >>> with torch.no_grad():
        ...     _ = average.module.weight.fill_(0.0), source.weight.fill_(1.0)
        >>> average.follow(source)
        >>> average.module.weight.item()
        0.25
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(source)
        self.decay = decay
        freeze(self.module)

    @torch.no_grad()
    def follow(self, source: nn.Module) -> None:
        """Take one step towards the source.

        Args:
            source: The module that was given at the beginning.
        """
        for average, value in zip(self.module.state_dict().values(), source.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - self.decay)
            else:
                average.copy_(value)
