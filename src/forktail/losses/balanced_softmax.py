"""Balanced softmax."""

from __future__ import annotations

from typing import final

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from forktail.losses._loss import Counts, Loss, class_counts, constant


@final
class BalancedSoftmax(Loss):
    """Cross-entropy of the balanced softmax (Ren et al. 2020, eq. 4): ``-sum_c t_c log softmax(z + log n)_c``, in nats.

    The logits themselves then speak of a uniform prior: predict with z. It is the logit-adjusted cross-entropy at
    tau = 1 (`forktail.losses.logit_adjusted`), in loss and gradient, since ``log n_c`` and ``log pi_c`` differ by
    ``log N``, which a softmax does not see. The paper's meta-sampler is no part of it.

    Args:
        counts: (C,) training images per class.

    Example:
        >>> import torch
        >>> BalancedSoftmax([90, 10])(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.1054, 2.3026])
    """

    adjustment: Tensor

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.register_buffer("adjustment", constant(np.log(class_counts(counts).per_class)))

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        return -(targets * F.log_softmax(logits + self.adjustment, dim=1)).sum(1)
