"""Where the per-image gradients of one tensor come from, a few images and a few rows at a time.

Legend: B images, T tokens of an image, c images asked for, r rows asked for, (R, W) the tensor as a matrix.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import final

import torch
from torch import Tensor


class Source(ABC):
    """The gradients of B images' losses with respect to one tensor, seen as a matrix of R rows.

    The first dimension of a tensor is its rows, all others its columns; a scalar is a matrix of one entry.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(R, W), the rows that can be asked for."""

    @property
    def support(self) -> Tensor | None:
        """``(R,)`` numbers of the tensor's rows that are not zero for sure; None means that all rows are there."""
        return None

    @property
    def splits(self) -> bool:
        """Whether a part of the rows costs only its part."""
        return True

    @abstractmethod
    def gradients(self, images: slice, rows: slice) -> Tensor:
        """Compute the gradients of some images.

        Args:
            images: Which of the B.
            rows: Which of the R.

        Returns:
            ``(c, r, W)``, one matrix per image.
        """


@final
class Dense(Source):
    """Gradients that are held.

    Args:
        values: ``(B, *shape)`` for a tensor of this shape.
    """

    def __init__(self, values: Tensor) -> None:
        self.values = values.reshape(*matrix_shape(values.shape, batched=True))

    @property
    def shape(self) -> tuple[int, int]:
        """See the base class."""
        return self.values.shape[1], self.values.shape[2]

    def gradients(self, images: slice, rows: slice) -> Tensor:
        """See the base class."""
        return self.values[images, rows]


@final
class Outer(Source):
    """The weight of a linear map over tokens: ``sum over tokens of g a'`` for each image, never held for all of them.

    Args:
        outputs: ``(B, T, R)``, g, the gradients at the map's outputs.
        inputs: ``(B, T, W)``, a, its inputs.
    """

    def __init__(self, outputs: Tensor, inputs: Tensor) -> None:
        self.outputs, self.inputs = outputs, inputs

    @property
    def shape(self) -> tuple[int, int]:
        """See the base class."""
        return self.outputs.shape[2], self.inputs.shape[2]

    @property
    def is_rank_one(self) -> bool:
        """Whether one token makes each gradient one outer product, whose products factorise."""
        return self.outputs.shape[1] == 1

    def gradients(self, images: slice, rows: slice) -> Tensor:
        """See the base class."""
        outputs, inputs = self.outputs[images, :, rows], self.inputs[images]
        if len(outputs) == 1:  # a plain product is faster than a batch of one
            return (outputs[0].T @ inputs[0])[None]
        return outputs.transpose(1, 2) @ inputs


@final
class Rows(Source):
    """The weight of an embedding: each image has gradients in the rows that it looks up, and zeros in all others.

    Args:
        outputs: ``(B, T, W)``, the gradients at what was looked up.
        index: ``(B, T)``, which rows were.
        padding: A row that never gets a gradient.
    """

    def __init__(self, outputs: Tensor, index: Tensor, padding: int | None) -> None:
        self.outputs = outputs if padding is None else outputs * (index != padding).unsqueeze(-1)
        self._support, self.index = torch.unique(index, return_inverse=True)

    @property
    def shape(self) -> tuple[int, int]:
        """See the base class."""
        return len(self._support), self.outputs.shape[2]

    @property
    def support(self) -> Tensor:
        """See the base class."""
        known: Tensor = self._support
        return known

    def gradients(self, images: slice, rows: slice) -> Tensor:
        """See the base class."""
        outputs, index = self.outputs[images], self.index[images]
        first, last, _ = rows.indices(self.shape[0])
        found = outputs.new_zeros(len(outputs), last - first + 1, outputs.shape[2])
        inside = (index >= first) & (index < last)
        spare = torch.where(inside, index - first, last - first)
        found.scatter_add_(1, spare.unsqueeze(-1).expand_as(outputs), outputs)
        return found[:, :-1]


@final
class Computed(Source):
    """Gradients that are computed each time they are asked for, because they would be too many to hold.

    Args:
        shape: Of the tensor.
        compute: Some of the B images to their gradients, ``(c, *shape)``.
    """

    def __init__(self, shape: torch.Size, compute: Callable[[slice], Tensor]) -> None:
        self.matrix, self.compute = matrix_shape(shape, batched=False), compute

    @property
    def shape(self) -> tuple[int, int]:
        """See the base class."""
        return self.matrix[0], self.matrix[1]

    @property
    def splits(self) -> bool:
        """See the base class."""
        return False

    def gradients(self, images: slice, rows: slice) -> Tensor:
        """See the base class."""
        found = self.compute(images)
        return found.reshape(len(found), *self.matrix)[:, rows]


@final
class Total(Source):
    """A tensor that is used more than once: its gradients are added before anything is squared.

    Args:
        parts: One source per use.
        shape: Of the tensor.
    """

    def __init__(self, parts: list[Source], shape: torch.Size) -> None:
        self.parts, self.matrix = parts, matrix_shape(shape, batched=False)

    @property
    def shape(self) -> tuple[int, int]:
        """See the base class."""
        return self.matrix[0], self.matrix[1]

    @cached_property
    def splits(self) -> bool:
        """See the base class."""
        return all(part.splits and part.support is None for part in self.parts)

    def gradients(self, images: slice, rows: slice) -> Tensor:
        """See the base class."""
        return torch.stack([whole_rows(part, self.matrix[0], images, rows) for part in self.parts]).sum(0)


def whole_rows(source: Source, num_rows: int, images: slice, rows: slice) -> Tensor:
    """Ask for rows of the tensor itself, also where a source knows of some only.

    Args:
        source: Of a tensor with ``num_rows`` rows.
        num_rows: R of the tensor.
        images: Which images.
        rows: Which rows of the tensor.

    Returns:
        ``(c, r, W)``.
    """
    support = source.support
    if support is None:
        return source.gradients(images, rows)
    some = source.gradients(images, slice(0, len(support)))
    return some.new_zeros(len(some), num_rows, some.shape[2]).index_copy_(1, support, some)[:, rows]


def matrix_shape(shape: torch.Size, *, batched: bool) -> tuple[int, ...]:
    """See a tensor as a matrix of its rows.

    Args:
        shape: Of the tensor, after a first dimension of images if ``batched``.
        batched: Whether there is one.

    Returns:
        ``(B, R, W)`` or ``(R, W)``.

    Example:
        >>> matrix_shape(torch.Size([8, 3, 2, 2]), batched=False), matrix_shape(torch.Size([5]), batched=True)
        ((8, 12), (5, 1, 1))
    """
    images, own = (shape[:1], shape[1:]) if batched else (shape[:0], shape)
    return (*images, own[0], math.prod(own[1:])) if own else (*images, 1, 1)
