"""What every per-image loss is.

Legend: B images of a batch, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forktail.errors import InputError
from forktail.labels import ClassCounts

Counts = ClassCounts | Sequence[int] | npt.NDArray[np.integer]


class Loss(nn.Module, ABC):
    """A loss per image, in nats; never reduced, and one image's loss depends on that image alone.

    A final class implements ``per_image``, leaves ``forward`` alone, and keeps its constants as buffers, so that they
    move and are saved with what holds the loss. Settings that are in no buffer stand in ``extra_repr``, since a stored
    training stage is known by the objective's ``repr`` and state.
    """

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each image.

        Args:
            logits: ``(B, C)``.
            targets: ``(B,)`` class indices, or ``(B, C)`` floats: one-hot, soft, or a row of zeros for an image of
                another task.

        Returns:
            ``(B,)`` losses, at least in single precision, also under autocast.

        Raises:
            InputError: If the shapes do not belong together.
        """
        _check_shapes(logits, targets)
        device = "cpu" if logits.is_meta else logits.device.type  # tensors without storage know no autocast
        with torch.autocast(device, enabled=False):
            # bfloat16 resolves a loss of 5 nats to 0.03; float64 stays what it is.
            wide = logits.float() if logits.dtype in {torch.float16, torch.bfloat16} else logits
            dense = targets if targets.is_floating_point() else F.one_hot(targets, logits.shape[1])
            return self.per_image(wide, dense.to(wide.dtype))

    @abstractmethod
    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each image from dense targets.

        Args:
            logits: ``(B, C)`` in float32 or float64.
            targets: ``(B, C)`` of the same type.

        Returns:
            ``(B,)`` losses.
        """


def class_counts(counts: Counts) -> ClassCounts:
    """Check what a loss was told of the training set.

    Args:
        counts: (C,) training images per class, each at least 1.

    Returns:
        The counts, C at least 2.

    Example:
        >>> class_counts([3, 1]).per_class
        array([3, 1])
    """
    return counts if isinstance(counts, ClassCounts) else ClassCounts(np.asarray(counts))


def class_prior(counts: Counts) -> npt.NDArray[np.float64]:
    """Turn counts into the prior of the training set.

    Args:
        counts: (C,) training images per class, each at least 1.

    Returns:
        (C,) pi_c = n_c / N.

    Example:
        >>> class_prior([3, 1])
        array([0.75, 0.25])
    """
    return class_counts(counts).prior


def constant(values: npt.NDArray[np.float64]) -> Tensor:
    """Turn a constant of a loss into the tensor that becomes its buffer.

    Args:
        values: Computed in float64.

    Returns:
        The values in float32, which every device has.
    """
    return torch.tensor(values, dtype=torch.float32)


def _check_shapes(logits: Tensor, targets: Tensor) -> None:
    expected = tuple(logits.shape) if targets.is_floating_point() else tuple(logits.shape[:1])
    if logits.ndim != 2 or tuple(targets.shape) != expected:
        raise InputError(
            f"logits of shape {tuple(logits.shape)} with {targets.dtype} targets of shape {tuple(targets.shape)}",
            expected="(B, C) logits with (B,) class indices or (B, C) floats",
        )
