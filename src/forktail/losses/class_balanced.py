"""Class-balanced losses."""

from __future__ import annotations

from typing import Literal, final, get_args

from torch import Tensor
from torch.nn import functional as F

from forktail.errors import InputError, nearest
from forktail.losses._loss import Counts
from forktail.losses._weights import ClassWeighted, effective_number_weights

Kind = Literal["softmax", "sigmoid", "focal"]


@final
class ClassBalanced(ClassWeighted):
    """A loss times the effective-number weight of the image's class (Cui et al. 2019, section 4), in nats.

    With ``w_c = (1 - beta) / (1 - beta^n_c)``, scaled to mean 1, and s = sigmoid(z):

    - ``softmax``: ``sum_c t_c w_c (-log softmax(z)_c)``;
    - ``sigmoid``: ``(sum_c t_c w_c) sum_c BCE(z_c, t_c)``, all C terms weighted as the TRUE class is;
    - ``focal``: ``(sum_c t_c w_c) sum_c t_c (1 - s_c)^gamma (-log s_c) + (1 - t_c) s_c^gamma (-log(1 - s_c))``.

    The mean over a batch is that of the authors, who divide by B. Deferred re-weighting divides by the weights of the
    batch instead, see `image_weights`. The authors train hard targets only; soft ones mix as above. A target row of
    zeros has no class, so it costs nothing under any kind. Sigmoid and focal want a classifier bias of -log(C - 1) at
    the start. The weight of each class COLUMN is another loss (`forktail.losses.cb_bce`).

    Args:
        counts: (C,) training images per class.
        beta: Of the effective number, in [0, 1); 0 leaves all classes at weight 1.
        kind: Which loss is weighted.
        gamma: Of the focal kind, at least 0; 0 gives the sigmoid kind. The others have none.

    Raises:
        InputError: The kind has no such name, or beta is outside [0, 1).

    Example:
        >>> import torch
        >>> ClassBalanced([90, 10])(torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.1391, 1.2472])
    """

    def __init__(self, counts: Counts, beta: float = 0.9999, kind: Kind = "softmax", gamma: float = 1.0) -> None:
        super().__init__(effective_number_weights(counts, beta))
        if kind not in get_args(Kind):
            remedy = nearest(kind, get_args(Kind))
            raise InputError(f'kind "{kind}" of class-balanced loss', expected="a known kind", remedy=remedy)
        self.kind = kind
        self.gamma = gamma

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        if self.kind == "softmax":
            return -(targets * self.class_weights * F.log_softmax(logits, dim=1)).sum(1)
        if self.kind == "sigmoid":
            losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        else:
            present, absent = F.logsigmoid(logits), F.logsigmoid(-logits)  # log s and log(1 - s), neither ever infinite
            losses = -targets * (self.gamma * absent).exp() * present
            losses = losses - (1 - targets) * (self.gamma * present).exp() * absent
        return self.image_weights(targets) * losses.sum(1)

    def extra_repr(self) -> str:
        """Show what is in no buffer."""
        return f"kind={self.kind!r}" + (f", gamma={self.gamma}" if self.kind == "focal" else "")
