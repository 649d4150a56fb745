"""Make a long tail of a balanced set, as the field does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from forktail.errors import InputError, nearest

if TYPE_CHECKING:
    from forktail.data.images import Images, IntArray

Tail: TypeAlias = Literal["exponential", "step"]

MOST = 2**53  # images: beyond any set, and exact as a floating-point number


def tail_counts(num_classes: int, n_max: int, imbalance: float, tail: Tail = "exponential") -> IntArray:
    r"""Say how many images each class of a long tail has.

    The protocol of CIFAR-LT (Cao et al. 2019), truncated as its code truncates:

    - ``exponential``: :math:`n_c = \lfloor n_{max}\, \mu^{c / (C - 1)} \rfloor`, where :math:`\mu` is one over
      the imbalance;
    - ``step``: :math:`n_{max}` for the first :math:`\lfloor C/2 \rfloor` classes,
      :math:`\lfloor n_{max}\, \mu \rfloor` for the others.

    Args:
        num_classes: ``C``.
        n_max: Images of the largest class, which is class 0.
        imbalance: Largest count over smallest, at least 1.
        tail: ``exponential`` or ``step``.

    Returns:
        ``(C,)`` counts, descending.

    Raises:
        InputError: If an argument is out of range or the last class would have no image.

    Example:
        >>> tail_counts(10, 5000, 100).tolist()
        [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    if tail not in get_args(Tail):
        raise InputError(f'tail "{tail}"', remedy=nearest(tail, get_args(Tail)))
    n_max = min(n_max, MOST)
    if num_classes < 2 or n_max < 1 or not 1 <= imbalance < float("inf"):
        found = f"{num_classes} classes, n_max {n_max}, imbalance {imbalance}"
        raise InputError(
            found,
            expected="2 classes, n_max of 1 and imbalance of 1, or more",
            remedy="set data.n_max and data.imbalance so, or leave them out",
        )
    ratio = 1 / imbalance
    if tail == "exponential":
        counts = [int(n_max * ratio ** (c / (num_classes - 1))) for c in range(num_classes)]
    else:
        counts = [n_max if c < num_classes // 2 else int(n_max * ratio) for c in range(num_classes)]
    if counts[-1] == 0:
        found = f"imbalance {imbalance} with {n_max} images in the largest class leaves none to the last class"
        raise InputError(
            found,
            expected="an image or more in every class",
            remedy=f"set data.imbalance to at most {n_max}, or leave it out if the set has a tail already",
        )
    return np.array(counts, dtype=np.int64)


def carve(
    images: Images, n_max: int | None = None, imbalance: float = 100, tail: Tail = "exponential", seed: int = 0
) -> Images:
    """Keep a long tail of a set, class 0 the largest, in the order in which the classes stand.

    One ``RandomState(seed)`` shuffles the classes one after the other and the first ``n_c`` of each are kept, so a
    smaller imbalance keeps all images of a larger one, and on CIFAR the images are those of the published code.

    Args:
        images: The set, usually balanced.
        n_max: Images of class 0; None takes the size of the smallest class.
        imbalance: Largest count over smallest.
        tail: ``exponential`` or ``step``.
        seed: Which images are kept.

    Returns:
        The kept images, in the order in which they stood.

    Raises:
        InputError: If a class has fewer images than it should keep.
    """
    sizes = images.class_counts()
    counts = tail_counts(len(sizes), int(sizes.min()) if n_max is None else n_max, imbalance, tail)
    short = np.flatnonzero(sizes < counts)
    if len(short):
        c = int(short[0])
        found = f'class "{images.classes[c]}" has {sizes[c]} images where the tail needs {counts[c]}'
        raise InputError(found, expected="as many or more", remedy=f"set data.n_max to at most {sizes.min()}")
    generator = np.random.RandomState(seed)
    kept = []
    for c, count in enumerate(counts):
        members = np.flatnonzero(images.labels == c)
        generator.shuffle(members)
        kept.append(np.sort(members[:count]))
    return images.subset(np.concatenate(kept))
