"""Labelled pictures in memory or on disk, and the splits of a data set."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

    from forktail.data.augment import AugmentKind

IntArray: TypeAlias = npt.NDArray[np.int64]
Example: TypeAlias = "Image.Image | str"  # a picture or a text
Transform: TypeAlias = "Callable[[Any], Tensor]"  # of whichever the set holds


class Pictures(Protocol):
    """Where pictures, or texts in their place, come from; each is read when it is needed."""

    def __len__(self) -> int: ...

    def read(self, position: int) -> Example:
        """Decode one picture, always as RGB, or return one text."""
        ...

    def name(self, position: int) -> str:
        """Say which picture this is, for messages: its path, or ``x_train[12]``."""
        ...

    def digest(self, positions: IntArray) -> str:
        """Identify the content of these pictures, in this order, as hexadecimal digits."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayPictures:
    """Pictures that stand in memory.

    Args:
        array: ``(N, H, W)`` grey or ``(N, H, W, 3)`` RGB, uint8.
        label: What the array is called in messages.

    Raises:
        ValueError: If shape or type are others.

    Example:
        >>> ArrayPictures(np.zeros((2, 4, 6), np.uint8)).read(1).size
        (6, 4)
    """

    array: npt.NDArray[np.uint8]
    label: str = "pictures"

    def __post_init__(self) -> None:
        shape = self.array.shape
        if self.array.dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
            raise ValueError(f"expected uint8 (N, H, W) or (N, H, W, 3), found {self.array.dtype} {shape}")

    def __len__(self) -> int:
        return len(self.array)

    def read(self, position: int) -> Image.Image:
        """Make an RGB picture of one row."""
        return Image.fromarray(self.array[position]).convert("RGB")

    def name(self, position: int) -> str:
        """Name a picture by its row."""
        return f"{self.label}[{position}]"

    def digest(self, positions: IntArray) -> str:
        """Hash the pixels."""
        content = hashlib.sha256(repr(self.array.shape[1:]).encode())
        for position in positions:
            content.update(self.array[position].tobytes())
        return content.hexdigest()


@dataclass(frozen=True, eq=False)
class Images:
    """``N`` labelled pictures or texts of ``C`` classes, ordered by class, then as they were found.

    Args:
        pictures: Where the pictures are read from.
        positions: ``(N,)`` the rows of ``pictures`` that belong to this set.
        labels: ``(N,)`` class of each, in ``0..C-1``.
        classes: The ``C`` class names.
        transform: Makes a tensor of a picture; without one, only ``read`` works.

    Raises:
        ValueError: If positions and labels differ in length or a label is outside ``0..C-1``.

    Example:
        >>> images = Images.ordered(ArrayPictures(np.zeros((3, 4, 4), np.uint8)), [1, 0, 1], ("cat", "dog"))
        >>> images.positions.tolist(), images.class_counts().tolist()
        ([1, 0, 2], [1, 2])
    """

    pictures: Pictures
    positions: IntArray
    labels: IntArray
    classes: tuple[str, ...]
    transform: Transform | None = None

    @classmethod
    def ordered(cls, pictures: Pictures, labels: npt.ArrayLike, classes: Sequence[str]) -> Images:
        """Take all pictures of a source, class by class.

        Args:
            pictures: The source.
            labels: Class of every picture of the source.
            classes: The class names.

        Returns:
            The pictures ordered by class, then by their place in the source.
        """
        given = np.asarray(labels, dtype=np.int64)
        positions = np.argsort(given, kind="stable").astype(np.int64)
        return cls(pictures, positions, given[positions], tuple(classes))

    def __post_init__(self) -> None:
        if self.positions.shape != self.labels.shape or self.labels.ndim != 1:
            raise ValueError(f"expected (N,) positions and labels, found {self.positions.shape}, {self.labels.shape}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(f"expected labels in 0..{len(self.classes) - 1}, found up to {self.labels.max()}")

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Tensor:
        """Read and transform one picture."""
        if self.transform is None:
            raise TypeError("these images have no transform: call with_transform first, or read(index)")
        return self.transform(self.read(index))

    def read(self, index: int) -> Example:
        """Decode one picture as RGB, or return one text."""
        return self.pictures.read(int(self.positions[index]))

    def name(self, index: int) -> str:
        """Say which picture this is."""
        return self.pictures.name(int(self.positions[index]))

    def subset(self, indices: npt.NDArray[Any] | Sequence[int]) -> Images:
        """Keep some of the images.

        Args:
            indices: Integer indices into this set, or an ``(N,)`` mask.

        Returns:
            These images, with the same classes and transform.
        """
        chosen = np.asarray(indices)
        kept = chosen if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        return dataclasses.replace(self, positions=self.positions[kept], labels=self.labels[kept])

    def with_transform(self, transform: Transform | None) -> Images:
        """Give the same images another transform."""
        return dataclasses.replace(self, transform=transform)

    def class_counts(self) -> IntArray:
        """Count the images of each class.

        Returns:
            ``(C,)`` counts; a class may have none.
        """
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Identify pictures, labels, classes and transform together, as hexadecimal digits."""
        content = hashlib.sha256(self.pictures.digest(self.positions).encode())
        content.update(self.labels.tobytes())
        content.update(repr((self.classes, self.transform)).encode())
        return content.hexdigest()


@dataclass(frozen=True, eq=False)
class DataSet:
    """The splits of one data set.

    Args:
        name: What it is called in reports.
        train: Images to learn from; every class has at least one.
        test: Images that are looked at once, at the end.
        val: Images for choices, or None if nothing was held out.
        augment: The kind of augmentation that suits these pictures (see ``forktail.data.augment``).
        notes: Sentences that a user should read: what was skipped, which classes lack validation images.
    """

    name: str
    train: Images
    test: Images
    val: Images | None
    augment: AugmentKind
    notes: tuple[str, ...] = ()
