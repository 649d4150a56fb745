"""Binary cross-entropy over classes."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import functional as F

from forktail.losses._loss import Loss


@final
class BinaryCrossEntropy(Loss):
    """One-against-rest loss, ``sum_c BCE(z_c, t_c)`` with ``BCE(z, t) = log(1 + e^z) - t z``, in nats.

    Summed over classes, so that it is the negative log-likelihood of C Bernoulli outputs (LiVT sums too). DeiT III
    takes the mean over classes instead, C times less: multiply its learning rate accordingly.

    Example:
        >>> import torch
        >>> BinaryCrossEntropy()(torch.zeros(1, 4), torch.tensor([2]))
        tensor([2.7726])
    """

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
