"""Logit-adjusted cross-entropy."""

from __future__ import annotations

from typing import final

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from forktail.losses._loss import Counts, Loss, class_prior, constant


@final
class LogitAdjusted(Loss):
    """Cross-entropy of adjusted logits (Menon et al. 2021, eq. 10): ``-sum_c t_c log softmax(z + tau log pi)_c``.

    The logits themselves then speak of a uniform prior: predict with z, not with the adjusted logits. At tau = 1 it is
    the balanced softmax (Ren et al. 2020), since ``log n_c`` and ``log pi_c`` differ by a constant. LiVT's balanced
    cross-entropy (Xu et al. 2023) is this loss under another name, soft targets included. The released code adds 1e-12
    inside the logarithm, which no count of at least one can show. Cosines are multiplied by their scale first.

    Args:
        counts: (C,) training images per class.
        tau: Strength of the adjustment; 0 gives cross-entropy.

    Example:
        >>> import torch
        >>> LogitAdjusted([90, 10])(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.1054, 2.3026])
    """

    adjustment: Tensor

    def __init__(self, counts: Counts, tau: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("adjustment", constant(tau * np.log(class_prior(counts))))

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        return -(targets * F.log_softmax(logits + self.adjustment, dim=1)).sum(1)
