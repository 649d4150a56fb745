"""When a test part is too small for a figure to mean much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from forktail.data.splits import some
from forktail.labels import ClassCounts

if TYPE_CHECKING:
    from forktail.data.images import Images

FEW = 10  # test pictures; an accuracy near one half then has a standard error of 16 points or more


def small_groups_notes(train: Images, test: Images, shots: str = "A") -> tuple[str, ...]:
    """Say which classes and shot groups have test pictures, but fewer than ten.

    Args:
        train: The training images, whose counts make the groups; every class has at least one.
        test: The test images.
        shots: Rule of the shot groups.

    Returns:
        Sentences for the user.
    """
    tested = test.class_counts()
    notes = []
    for name, classes in ClassCounts(train.class_counts()).shots(shots).groups.items():
        if 0 < (total := int(tested[classes].sum())) < FEW:
            notes.append(f"the shot group {name} has {total} test images, fewer than {FEW}: its accuracy says little.")
    thin = np.flatnonzero((tested > 0) & (tested < FEW))
    if len(thin):
        names = some([test.classes[c] for c in thin])
        notes.append(f"fewer than {FEW} test images, so that an accuracy of one class says little: {names}.")
    return tuple(notes)
