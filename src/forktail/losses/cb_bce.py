"""Class-balanced binary cross-entropy as LiVT runs it."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import functional as F

from forktail.losses._loss import Counts, Loss, constant
from forktail.losses._weights import effective_number_weights


@final
class CBBCE(Loss):
    """Binary cross-entropy with a weight per class COLUMN, ``sum_c w_c BCE(z_c, t_c)``, in nats (LiVT, Xu et al. 2023).

    ``w_c = (1 - beta) / (1 - beta^n_c)``, scaled to mean 1. Cui et al. 2019, who named the weights, multiply all terms
    of an image by the weight of its true class instead (`forktail.losses.class_balanced`, sigmoid). Here a rare class
    has its negatives weighted up as well, so its prior log odds stay as they were.

    Args:
        counts: (C,) training images per class.
        beta: Of the effective number, in [0, 1); 0 gives binary cross-entropy.

    Raises:
        InputError: If beta is outside [0, 1).

    Example:
        >>> import torch
        >>> CBBCE([90, 10])(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([1.3863, 1.3863])
    """

    column_weights: Tensor

    def __init__(self, counts: Counts, beta: float = 0.9999) -> None:
        super().__init__()
        self.register_buffer("column_weights", constant(effective_number_weights(counts, beta)))

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return (self.column_weights * losses).sum(1)
