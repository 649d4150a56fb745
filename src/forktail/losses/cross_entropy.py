"""Cross-entropy."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import functional as F

from forktail.losses._loss import Loss


@final
class CrossEntropy(Loss):
    """Softmax cross-entropy, ``-sum_c t_c log softmax(z)_c``, in nats.

    Example:
        >>> import torch
        >>> CrossEntropy()(torch.zeros(1, 4), torch.tensor([2]))
        tensor([1.3863])
    """

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        return -(targets * F.log_softmax(logits, dim=1)).sum(1)
