"""Weights of classes, and what a loss that has them can tell.

Legend: B images of a batch, C classes.
"""

from __future__ import annotations

from abc import ABC

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional as F

from forktail.labels import effective_number
from forktail.losses._loss import Counts, Loss, class_counts, constant


class ClassWeighted(Loss, ABC):
    """A loss with a weight w_c per class, which multiplies what an image of class c costs.

    The loss is not divided by the weights: the mean over a batch of B divides by B. Much released code divides by the
    weights of the batch's images instead (PyTorch's weighted mean); whoever averages does so with ``image_weights``, as
    ``losses.sum() / loss.image_weights(targets).sum()``.

    Args:
        weights: (C,) class weights, of mean 1.
    """

    class_weights: Tensor

    def __init__(self, weights: npt.NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("class_weights", constant(weights))

    def image_weights(self, targets: Tensor) -> Tensor:
        """Weigh each image.

        Args:
            targets: ``(B,)`` class indices or ``(B, C)`` floats, as the loss takes them.

        Returns:
            ``(B,)`` weights ``sum_c t_c w_c``: that of the image's class where the target is hard.
        """
        dense = targets if targets.is_floating_point() else F.one_hot(targets, len(self.class_weights))
        return (dense * self.class_weights).sum(1)


def effective_number_weights(counts: Counts, beta: float) -> npt.NDArray[np.float64]:
    """Weigh classes by the inverse of their effective number of images (Cui et al. 2019, proposition 1).

    ``w_c = (1 - beta) / (1 - beta^n_c)``, scaled to mean 1: ones at beta = 0, proportional to 1 / n_c as beta nears 1.

    Args:
        counts: (C,) training images per class.
        beta: In [0, 1); (N - 1) / N where a class holds N distinct images.

    Returns:
        (C,) weights that sum to C.

    Example:
        >>> effective_number_weights([2, 1], beta=0.5)
        array([0.8, 1.2])
    """
    return mean_one(1 / effective_number(class_counts(counts).per_class, beta))


def mean_one(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scale weights to mean 1, so that a weighted loss keeps about the scale of the plain one.

    Args:
        weights: (C,) positive.

    Returns:
        (C,) weights that sum to C.

    Example:
        >>> mean_one(np.array([3.0, 1.0]))
        array([1.5, 0.5])
    """
    scaled: npt.NDArray[np.float64] = weights * (weights.size / weights.sum())
    return scaled
