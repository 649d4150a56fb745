"""Generalised re-weighting."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import functional as F

from forktail.losses._loss import Counts, class_prior
from forktail.losses._weights import ClassWeighted, mean_one


@final
class GeneralizedReweighted(ClassWeighted):
    """Cross-entropy weighted by a power of the prior, ``sum_c t_c w_c (-log softmax(z)_c)``, in nats (GRW).

    DisAlign's generalised re-weighting (Zhang et al. 2021): ``w_c = pi_c^(-rho)``, scaled to mean 1. DisAlign divides
    the batch's sum by the weights of its images, see `image_weights`.

    Args:
        counts: (C,) training images per class.
        rho: Exponent; 0 gives cross-entropy, 1 weighs by 1 / n_c. Published: 1.2 on ImageNet-LT.

    Example:
        >>> import torch
        >>> GeneralizedReweighted([30, 10])(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.3466, 1.0397])
    """

    def __init__(self, counts: Counts, rho: float = 1.0) -> None:
        super().__init__(mean_one(class_prior(counts) ** -rho))

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        return -(targets * self.class_weights * F.log_softmax(logits, dim=1)).sum(1)
