"""Inner products of per-image gradients of one tensor, each image's gradient held whole or as its factors.

Legend: B images (of all tasks, stacked), T tokens of an image, (R, W) the tensor as a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from forktail.fisher.sources import Outer, Source, whole_rows

# Entries of a table of tokens by tokens that are held at once.
TABLE_ENTRIES = 2**22


@final
@dataclass(frozen=True, eq=False)
class Whole:
    """Gradients as they are.

    Args:
        values: ``(B, R, W)``.

    Example:
        >>> rows = Whole(torch.tensor([[[1.0, 2.0]], [[0.0, 1.0]]]))
        >>> products(rows, rows)
        tensor([[5., 2.],
                [2., 1.]])
    """

    values: Tensor

    def whole(self) -> Tensor:
        """``(B, R, W)``."""
        return self.values

    def along(self, directions: Tensor) -> Tensor:
        """Multiply every gradient with some directions.

        Args:
            directions: ``(k, R, W)``.

        Returns:
            ``(B, k)``.
        """
        return self.values.flatten(1) @ directions.to(self.values).flatten(1).T


@final
@dataclass(frozen=True, eq=False)
class Factors:
    """The weight of a linear map over few tokens: ``sum over tokens of g a'``, never formed.

    Args:
        outputs: ``(B, T, R)``, g.
        inputs: ``(B, T, W)``, a.
    """

    outputs: Tensor
    inputs: Tensor

    def whole(self) -> Tensor:
        """``(B, R, W)``."""
        return self.outputs.transpose(1, 2) @ self.inputs

    def along(self, directions: Tensor) -> Tensor:
        """See `Whole`."""
        known = directions.to(self.inputs)
        return torch.stack([((self.outputs @ one) * self.inputs).sum((1, 2)) for one in known], dim=1)


Rows = Whole | Factors


def rows_of(source: Source, num_rows: int) -> Rows:
    """Hold one tensor's gradients in the form whose inner products cost less.

    With X = inputs and D = outputs, ``<D_i'X_i, D_j'X_j> = sum over tokens of (X_i X_j') o (D_i D_j')``, which is
    T^2 (R + W + 1) multiplications instead of R W.

    Args:
        source: Of all images of one task.
        num_rows: R of the tensor.

    Returns:
        The rows.
    """
    if isinstance(source, Outer):
        tokens, (height, width) = source.outputs.shape[1], source.shape
        if tokens**2 * (height + width + 1) < height * width:
            return Factors(source.outputs.detach(), source.inputs.detach())
    return Whole(whole_rows(source, num_rows, slice(None), slice(0, num_rows)))


def added(one: Rows, other: Rows) -> Rows:
    """Add the gradients of two uses of one tensor, which have to be added before they are multiplied.

    Args:
        one: Of the same images and tensor.
        other: As well.

    Returns:
        Their sum.
    """
    return Whole(one.whole() + other.whole())


def stacked(parts: list[Rows]) -> Rows:
    """Put the rows of several tasks under one another.

    Args:
        parts: Of the same tensor.

    Returns:
        All rows, in order.
    """
    factors = [part for part in parts if isinstance(part, Factors)]
    if len(factors) == len(parts) and len({part.outputs.shape[1] for part in factors}) == 1:
        return Factors(torch.cat([part.outputs for part in factors]), torch.cat([part.inputs for part in factors]))
    return Whole(torch.cat([part.whole() for part in parts]))


def products(one: Rows, other: Rows) -> Tensor:
    """Multiply every gradient with every other.

    Args:
        one: B gradients of a tensor.
        other: B' gradients of the same.

    Returns:
        ``(B, B')``.
    """
    if not (isinstance(one, Factors) and isinstance(other, Factors)):
        return one.whole().flatten(1) @ other.whole().flatten(1).T
    tokens, others = one.outputs.shape[1], other.outputs.shape[:2]
    step = max(1, TABLE_ENTRIES // (tokens * others.numel()))
    outputs, inputs = other.outputs.flatten(0, 1).T, other.inputs.flatten(0, 1).T
    parts = []
    for first in range(0, len(one.outputs), step):
        some = slice(first, first + step)
        table = (one.outputs[some].flatten(0, 1) @ outputs) * (one.inputs[some].flatten(0, 1) @ inputs)
        parts.append(table.view(-1, tokens, *others).sum((1, 3)))
    return torch.cat(parts)
