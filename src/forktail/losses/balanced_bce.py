"""Balanced binary cross-entropy: the training loss of each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional as F

from forktail.losses._loss import Counts, Loss, class_prior, constant


@final
class BalancedBCE(Loss):
    """Binary cross-entropy of adjusted logits (docs/theory.md, eq. 2; LiVT, Xu et al. 2023).

    ``sum_c BCE(z_c + tau (log pi_c - log(1 - pi_c)), t_c)``, summed over classes, in nats. The adjustment is the prior
    log odds of class c against the rest, so that z_c keeps what the image says.

    Args:
        counts: (C,) training images per class, of all classes.
        tau: Strength of the adjustment; 0 gives binary cross-entropy.
        classes: The classes of one task, in the order of the logits' columns; None for all. The prior stays that of
            all classes, since a task trains on all images. Integer targets then count the task's columns; an image of
            another task needs a dense row of zeros.

    Example:
        >>> import torch
        >>> BalancedBCE([90, 10])(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.2107, 4.6052])
    """

    adjustment: Tensor

    def __init__(
        self, counts: Counts, tau: float = 1.0, classes: Sequence[int] | npt.NDArray[np.integer] | None = None
    ) -> None:
        super().__init__()
        prior = class_prior(counts)
        adjustment = tau * (np.log(prior) - np.log1p(-prior))
        self.register_buffer("adjustment", constant(adjustment if classes is None else adjustment[np.asarray(classes)]))

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        return F.binary_cross_entropy_with_logits(logits + self.adjustment, targets, reduction="none").sum(1)
