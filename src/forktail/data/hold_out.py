"""Set images of every class aside, for choices or for the final measurement."""

from __future__ import annotations

import numpy as np

from forktail.data.images import Images, IntArray
from forktail.data.splits import some
from forktail.errors import InputError

VALIDATION, TEST = 2, 3  # a part's place in the seed: the two draw apart
SPARE = 50  # validation images of a class that has some to spare


def held_out_validation(
    images: Images, seed: int, spare: Images | None = None
) -> tuple[Images, Images | None, tuple[str, ...]]:
    """Hold out ``min(5, n_c // 5)`` images of each class, or up to 50 of those that a carved tail left over.

    Args:
        images: The training images.
        seed: Which images.
        spare: Images of the same set that are not trained on; each takes the place of a training image.

    Returns:
        The remaining training images; the validation images, or None if no class gives any; notes on the classes that
        give none.
    """
    sizes = images.class_counts()
    left_over = np.zeros_like(sizes) if spare is None else spare.class_counts()
    taken = np.maximum(0, np.minimum(5, sizes // 5) - left_over)
    train, val = _divide(images, taken, [seed, VALIDATION])
    if spare is not None:
        _, drawn = _divide(spare, np.minimum(SPARE, left_over), [seed, VALIDATION])
        val = _joined(val, drawn)
    without = [images.classes[c] for c in np.flatnonzero(val.class_counts() == 0)]
    if not len(val):
        return images, None, ("no class has the 5 images from which one is held out: there is no validation part.",)
    notes = (f"no validation images, for lack of 5 training images: {some(without)}.",) if without else ()
    return train, val, notes


def held_out_test(images: Images, seed: int) -> tuple[Images, Images, tuple[str, ...]]:
    """Hold out ``min(50, max(1, n_c // 5))`` images of each class that has two, where a set brings no test part.

    Args:
        images: All images.
        seed: Which images.

    Returns:
        The remaining training images, the test images, and a note that says so.

    Raises:
        InputError: If no class has two images.
    """
    sizes = images.class_counts()
    counts = np.where(sizes >= 2, np.minimum(50, np.maximum(1, sizes // 5)), 0)
    train, test = _divide(images, counts, [seed, TEST])
    if not len(test):
        raise InputError(
            "no class has two images, so none can be held out to test on",
            expected="two images or more in some class",
            remedy="add images, or a test part",
        )
    note = f"the set brings no test part: {len(test)} images, a fifth of each class but at most 50, were held out."
    return train, test, (note,)


def _joined(one: Images, other: Images) -> Images:
    """Join two parts of the same pictures, sorted by class as a set is."""
    positions, labels = np.append(one.positions, other.positions), np.append(one.labels, other.labels)
    order = np.lexsort((positions, labels))
    return Images(one.pictures, positions[order], labels[order], one.classes)


def _divide(images: Images, counts: IntArray, seed: list[int]) -> tuple[Images, Images]:
    """Part ``counts[c]`` images of each class from the others; a class draws by itself, whatever the others have."""
    held = np.zeros(len(images), np.bool_)
    for c, count in enumerate(counts):
        members = np.flatnonzero(images.labels == c)
        held[np.random.RandomState([*seed, c]).permutation(members)[:count]] = True
    return images.subset(~held), images.subset(held)
