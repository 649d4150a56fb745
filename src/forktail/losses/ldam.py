"""Label-distribution-aware margins."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import functional as F

from forktail.losses._log_odds import log_odds_against
from forktail.losses._loss import Counts, class_counts, constant
from forktail.losses._weights import ClassWeighted, effective_number_weights


@final
class LDAM(ClassWeighted):
    """Cross-entropy of scaled cosines, the true one less a margin that is larger for rare classes (Cao et al. 2019).

    ``sum_c t_c w_c CE(s (cos - m_c e_c), c)`` with ``m_c = max_m (min n / n_c)^(1/4)`` (section 3.2), in nats. The
    logits are COSINES: they are multiplied by s here, not in the network. Where a network scales by itself (RIDE),
    ``max_m=30 * 0.5, s=1`` is the same loss. Predict with the cosines, without margin. Mixed images pay for each of
    their classes with that class's margin (as LiVT's lambda L(y_a) + (1 - lambda) L(y_b)).

    Deferred re-weighting (DRW) is this loss with ``beta=0`` first and ``beta=0.9999`` later, averaged by
    `image_weights`; the paper writes 1 / n_c, its code takes the effective number.

    Args:
        counts: (C,) training images per class.
        max_m: Margin of the rarest class, as a cosine; 0 gives cross-entropy of s cos.
        s: Scale of the cosines.
        beta: Of the effective-number weights, in [0, 1); 0 weighs all classes alike.

    Raises:
        InputError: If beta is outside [0, 1).

    Example:
        >>> import torch
        >>> LDAM([160, 10])(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([ 7.5006, 15.0000])
    """

    margins: Tensor

    def __init__(self, counts: Counts, max_m: float = 0.5, s: float = 30.0, beta: float = 0.0) -> None:
        super().__init__(effective_number_weights(counts, beta))
        known = class_counts(counts).per_class
        self.register_buffer("margins", constant(max_m * (known.min() / known) ** 0.25))
        self.s = s

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        against = log_odds_against(self.s * logits) + self.s * self.margins
        return -(targets * self.class_weights * F.logsigmoid(-against)).sum(1)

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        return f"s={self.s}"
