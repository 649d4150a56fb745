"""Label-aware smoothing."""

from __future__ import annotations

from typing import Literal, final, get_args

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional as F

from forktail.errors import InputError, nearest
from forktail.losses._loss import Counts, Loss, class_counts, constant

Shape = Literal["concave", "linear", "convex", "exp"]


@final
class LabelAwareSmoothing(Loss):
    """Cross-entropy with labels smoothed the more, the more frequent their class (MiSLAS, Zhong et al. 2021), in nats.

    ``sum_c t_c ((1 - eps_c) (-log p_c) + eps_c mean_k (-log p_k))`` with p = softmax(z): the mean takes in the true
    class, as the authors' code does, where the paper gives eps / (C - 1) to the others alone. eps runs from
    smooth_tail at the rarest class to smooth_head at the most frequent one, with
    ``x_c = (n_c - n_min) / (n_max - n_min)``:

    - ``concave``: ``t + (h - t) sin(x pi / 2)``;
    - ``linear``: ``t + (h - t) x``;
    - ``convex``: ``h - (h - t) cos(x pi / 2)``;
    - ``exp``: ``t + (h - t) x^power``.

    Where all classes are equally frequent, all count as the most frequent: ordinary smoothing with smooth_head.

    Args:
        counts: (C,) training images per class.
        smooth_head: h in [0, 1]; published: 0.3 (ImageNet-LT, iNaturalist), 0.4 (Places-LT, CIFAR-100).
        smooth_tail: t in [0, 1]; published: 0 with h = 0.3 and below, 0.1 with h = 0.4.
        shape: How eps grows in between.
        power: Of the shape ``exp``, above 0; the others have none.

    Raises:
        InputError: An unknown shape, eps outside [0, 1], ``exp`` without a power above 0, or a power without
            ``exp``.

    Example:
        >>> import torch
        >>> loss = LabelAwareSmoothing([90, 50, 10], smooth_head=0.4, smooth_tail=0.1, shape="linear")
        >>> loss.smooth
        tensor([0.4000, 0.2500, 0.1000])
        >>> loss(torch.eye(3), torch.tensor([0, 1, 2]))
        tensor([0.8181, 0.7181, 0.6181])
    """

    smooth: Tensor

    def __init__(
        self,
        counts: Counts,
        smooth_head: float = 0.3,
        smooth_tail: float = 0.0,
        shape: Shape = "concave",
        power: float | None = None,
    ) -> None:
        super().__init__()
        if shape not in get_args(Shape):
            remedy = nearest(shape, get_args(Shape))
            raise InputError(f'shape "{shape}" of label-aware smoothing', expected="a known shape", remedy=remedy)
        if not (power is None if shape != "exp" else power is not None and power > 0):
            expected = 'a power above 0 with shape "exp", none otherwise'
            raise InputError(f'shape "{shape}" with power {power}', expected=expected)
        if not 0 <= min(smooth_head, smooth_tail) <= max(smooth_head, smooth_tail) <= 1:
            raise InputError(f"smoothing of {smooth_head} and {smooth_tail}", expected="numbers in [0, 1]")
        grown = _grown(_frequency(counts), shape, power)
        self.register_buffer("smooth", constant(smooth_tail + (smooth_head - smooth_tail) * grown))

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the base class."""
        surprise = -F.log_softmax(logits, dim=1)
        moved = self.smooth * targets
        return ((targets - moved) * surprise).sum(1) + moved.sum(1) * surprise.mean(1)


def _frequency(counts: Counts) -> npt.NDArray[np.float64]:
    """Place each class between the rarest, 0, and the most frequent, 1."""
    known = class_counts(counts).per_class
    spread = known.max() - known.min()
    return (known - known.min()) / spread if spread else np.ones(known.size)


def _grown(x: npt.NDArray[np.float64], shape: Shape, power: float | None) -> npt.NDArray[np.float64]:
    if shape == "concave":
        return np.sin(x * np.pi / 2)
    if shape == "convex":
        return 1 - np.cos(x * np.pi / 2)
    return x if power is None else x**power
