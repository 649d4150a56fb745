"""Focal loss of a softmax."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import functional as F

from forktail.losses._log_odds import log_odds_against
from forktail.losses._loss import Loss


@final
class Focal(Loss):
    """Cross-entropy turned down where the network is right, ``sum_c t_c (1 - p_c)^gamma (-log p_c)``, in nats.

    Lin et al. 2017, eq. 4, with p = softmax(z) in place of their sigmoid, as the long-tail field runs it. For the
    sigmoid form see `forktail.losses.class_balanced` (focal, beta = 0).

    Args:
        gamma: At least 0; 0 gives cross-entropy. Published: 2 (Lin et al., LADE, LIFT), 1 (LDAM).
        through: Whether the gradient also passes through the modulator ``(1 - p_c)^gamma`` (Lin et al., LDAM, RIDE,
            SADE, LIFT) or takes it as a constant (LADE, GCL). The value of the loss is the same.

    Example:
        >>> import torch
        >>> Focal(gamma=2.0)(torch.zeros(1, 4), torch.tensor([2]))
        tensor([0.7798])
    """

    def __init__(self, gamma: float = 2.0, through: bool = True) -> None:
        super().__init__()
        self.gamma = gamma
        self.through = through

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        against = log_odds_against(logits)
        modulator = (self.gamma * F.logsigmoid(against)).exp()  # 1 - p_c = sigmoid(against)
        modulator = modulator if self.through else modulator.detach()
        return -(targets * modulator * F.logsigmoid(-against)).sum(1)

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        return f"gamma={self.gamma}, through={self.through}"
