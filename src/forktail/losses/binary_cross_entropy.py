"""Binary cross-entropy over classes."""

from __future__ import annotations

from typing import Literal, final, get_args

from torch import Tensor
from torch.nn import functional as F

from forktail.errors import InputError, nearest
from forktail.losses._loss import Loss

Scale = Literal["sum", "mean"]


@final
class BinaryCrossEntropy(Loss):
    """One-against-rest loss, ``sum_c BCE(z_c, t_c)`` with ``BCE(z, t) = log(1 + e^z) - t z``, in nats.

    The two conventions differ by the factor C, so that a learning rate of one does not serve the other, least of all
    under SGD. DeiT III also sets every positive target of a mixed image to 1: that is a matter of the targets.

    Args:
        scale: ``sum`` over classes, the negative log-likelihood of C Bernoulli outputs (LiVT, Xu et al. 2023); or
            ``mean`` over classes, C times less (DeiT III, Touvron et al. 2022).

    Raises:
        InputError: The scale has no such name.

    Example:
        >>> import torch
        >>> BinaryCrossEntropy()(torch.zeros(1, 4), torch.tensor([2]))
        tensor([2.7726])
        >>> BinaryCrossEntropy("mean")(torch.zeros(1, 4), torch.tensor([2]))
        tensor([0.6931])
    """

    def __init__(self, scale: Scale = "sum") -> None:
        super().__init__()
        if scale not in get_args(Scale):
            remedy = nearest(scale, get_args(Scale))
            raise InputError(f'scale "{scale}" of binary cross-entropy', expected="a known scale", remedy=remedy)
        self.scale = scale

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return losses.sum(1) if self.scale == "sum" else losses.mean(1)

    def extra_repr(self) -> str:
        """Show the scale."""
        return f"scale={self.scale!r}"
