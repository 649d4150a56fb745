"""``glyphs``: pictures of 100 characters with a long tail, embedded in the package."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forktail.data.drawing.distort import distorted
from forktail.data.drawing.fonts import TRAIN_FONTS
from forktail.data.embedded import embedded
from forktail.data.images import ArrayPictures, DataSet, Images
from forktail.data.longtail import Tail, tail_counts
from forktail.errors import InputError

TRAIN, TEST = 0, 1  # a split's place in the seed of its pictures
LARGEST = 10_000  # images of the largest class: 100 such classes are 800 MB


def glyphs(
    n_max: int = 200, imbalance: float = 100, tail: Tail = "exponential", test_per_class: int = 25, seed: int = 0
) -> DataSet:
    """Make the pictures: 28 x 28, grey, one distorted character each.

    100 characters, Latin, Greek, Cyrillic and digits, no two of them the same shape up to an affine map in any
    typeface. Training pictures are drawn in twelve fonts of three families (DejaVu Sans, DejaVu Sans Mono, STIX), test
    pictures in four of another (DejaVu Serif): a typeface of the test never occurs in training. Turned by up to 15
    degrees, slanted, stretched, moved, on a sloping and noisy ground, three of ten with dark and bright exchanged.

    The bits depend on the arguments alone, not on the versions of numpy, Pillow or a font. Which class is the largest
    is drawn from the seed; a class keeps its pictures when counts change, the first ``n_c`` of them.

    Args:
        n_max: Training images of the largest class.
        imbalance: Largest training count over smallest; by default 4,311 images in all.
        tail: ``exponential`` or ``step``.
        test_per_class: Test images of every class.
        seed: The order of the classes and all chance in the pictures.

    Returns:
        The data set, without a validation part.

    Raises:
        InputError: If ``test_per_class`` is below 1, the seed is negative, the tail is impossible or too large for
            the memory.

    Example:
        >>> data = glyphs(n_max=20, imbalance=10, test_per_class=2)
        >>> len(data.train), len(data.test), data.train.read(0).size
        (737, 200, (28, 28))
    """
    if test_per_class < 1 or seed < 0:
        found = f"test_per_class {test_per_class}, seed {seed}"
        raise InputError(found, expected="test_per_class of at least 1 and a seed of at least 0")
    if n_max > LARGEST:
        raise InputError(f"n_max {n_max} of glyphs", expected=f"at most {LARGEST}", remedy="set data.n_max lower")
    # 100 characters and their (16, 100, 32, 32) clean bitmaps, fonts in the order of fonts.py
    characters, bitmaps = embedded("classes").tolist(), embedded("bitmaps")
    order = np.random.RandomState(seed).permutation(len(characters))
    classes = tuple(characters[i] for i in order)
    counts = tail_counts(len(classes), n_max, imbalance, tail)
    train, test = bitmaps[: len(TRAIN_FONTS)], bitmaps[len(TRAIN_FONTS) :]
    return DataSet(
        name="glyphs",
        train=_split(train[:, order], order, counts, [seed, TRAIN], classes),
        test=_split(test[:, order], order, np.full_like(counts, test_per_class), [seed, TEST], classes),
        val=None,
        augment="shift",
        notes=("test images are drawn in a typeface that occurs in no training image.",),
    )


def _split(
    bitmaps: npt.NDArray[np.uint8],
    order: npt.NDArray[np.int_],
    counts: npt.NDArray[np.int64],
    seed: list[int],
    classes: tuple[str, ...],
) -> Images:
    """Draw ``counts[c]`` pictures of each class; the seed names the character, so its place in the tail is free."""
    drawn = [
        distorted(bitmaps[:, c], int(count), np.random.RandomState([*seed, int(order[c])]))
        for c, count in enumerate(counts)
    ]
    labels = np.repeat(np.arange(len(classes)), counts)
    return Images.ordered(ArrayPictures(np.concatenate(drawn), "glyphs"), labels, classes)
