"""Groups of images for standard errors."""

from __future__ import annotations

import numpy as np

from forktail.errors import InputError
from forktail.labels import IntArray


def stratified_groups(labels: IntArray, num_groups: int, seed: int) -> list[IntArray]:
    """Deal images out to groups, class after class, so that all groups are as alike as they can be.

    Sizes differ by at most one image, and so do the images of any one class; the images of classes that are rarer than
    there are groups are spread over all groups. Whose turn it is within a class, and which class comes first, is drawn.

    Args:
        labels: ``(N,)`` class of each image.
        num_groups: G, at most N.
        seed: Of the draw.

    Returns:
        G ascending arrays of positions, which together are 0..N-1.

    Raises:
        InputError: If there are more groups than images.

    Example:
        >>> groups = stratified_groups(np.array([0, 0, 0, 0, 1, 2]), 2, seed=0)
        >>> [np.bincount(np.array([0, 0, 0, 0, 1, 2])[group]).tolist()[0] for group in groups]
        [2, 2]
    """
    if not 1 <= num_groups <= len(labels):
        raise InputError(
            f"{num_groups} groups of {len(labels)} images", expected="an image for each, one group at least"
        )
    draw = np.random.default_rng(seed)
    classes = draw.permutation(np.unique(labels))
    dealt = np.concatenate([draw.permutation(np.flatnonzero(labels == one)) for one in classes])
    return [np.sort(dealt[first::num_groups]) for first in range(num_groups)]
