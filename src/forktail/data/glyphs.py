"""``glyphs``: pictures of 100 characters with a long tail, embedded in the package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forktail.data.drawing.distort import distorted
from forktail.data.drawing.fonts import TRAIN_FONTS
from forktail.data.drawing.mismatched import mismatched
from forktail.data.embedded import embedded
from forktail.data.images import ArrayPictures, DataSet, Images
from forktail.data.longtail import Tail, tail_counts
from forktail.errors import InputError
from forktail.labels import ClassCounts, by_rank

TRAIN, TEST, VALIDATION = 0, 1, 2  # a split's place in the seed of its pictures
LARGEST = 10_000  # images of the largest class: 100 such classes are 800 MB


def glyphs(
    n_max: int = 200,
    imbalance: float = 100,
    tail: Tail = "exponential",
    test_per_class: int = 25,
    seed: int = 0,
    mismatch: float = 0.0,
    validation_per_class: int = 0,
) -> DataSet:
    """Make the pictures: 28 x 28, grey, one distorted character each.

    100 characters, Latin, Greek, Cyrillic and digits, no two of them the same shape up to an affine map in any
    typeface. Training pictures are drawn in twelve fonts of three families (DejaVu Sans, DejaVu Sans Mono, STIX), test
    pictures in four of another (DejaVu Serif): a typeface of the test never occurs in training. Validation pictures are
    drawn as training pictures are, and take none of them away. Turned by up to 15 degrees, slanted, stretched, moved,
    on a sloping and noisy ground, three of ten with dark and bright exchanged.

    With a mismatch the rarer half of the classes, the tail of `by_rank`, is drawn in another kind of picture, in
    training and test alike (docs/glyphs.md). The head's pictures stay as they are.

    The bits depend on the arguments alone, not on the versions of numpy, Pillow or a font. Which class is the largest
    is drawn from the seed; a class keeps its pictures when counts change, the first ``n_c`` of them.

    Args:
        n_max: Training images of the largest class.
        imbalance: Largest training count over smallest; by default 4,311 images in all.
        tail: ``exponential`` or ``step``.
        test_per_class: Test images of every class.
        seed: The order of the classes and all chance in the pictures.
        mismatch: How far the tail's kind of picture is from the head's, in [0, 1].
        validation_per_class: Validation images of every class; with 0 there is no such part.

    Returns:
        The data set.

    Raises:
        InputError: If ``test_per_class`` is below 1, ``validation_per_class`` or the seed is negative, the mismatch is
            not in [0, 1], the tail is impossible or too large for the memory.

    Example:
        >>> data = glyphs(n_max=20, imbalance=10, test_per_class=2)
        >>> len(data.train), len(data.test), data.train.read(0).size
        (737, 200, (28, 28))
    """
    if test_per_class < 1 or validation_per_class < 0 or seed < 0:
        found = f"test_per_class {test_per_class}, validation_per_class {validation_per_class}, seed {seed}"
        raise InputError(found, expected="test_per_class of at least 1, the others of at least 0")
    if not 0 <= mismatch <= 1:
        raise InputError(f"mismatch {mismatch} of glyphs", expected="0 (one kind of picture) to 1 (two)")
    if n_max > LARGEST:
        raise InputError(f"n_max {n_max} of glyphs", expected=f"at most {LARGEST}", remedy="set data.n_max lower")
    # 100 characters and their (16, 100, 32, 32) clean bitmaps, fonts in the order of fonts.py
    characters, bitmaps = embedded("classes").tolist(), embedded("bitmaps")
    order = np.random.RandomState(seed).permutation(len(characters))
    counts = tail_counts(len(characters), n_max, imbalance, tail)
    classes = _Classes(
        tuple(characters[i] for i in order), order, mismatch, _stripes(order, counts) if mismatch else {}
    )
    notes = ["test images are drawn in a typeface that occurs in no training image."]
    if mismatch:
        notes.append(f"the rarer half of the classes is drawn in another kind of picture: mismatch {mismatch:g}.")
    train, test = bitmaps[: len(TRAIN_FONTS), order], bitmaps[len(TRAIN_FONTS) :, order]
    each = np.full_like(counts, validation_per_class)
    return DataSet(
        name="glyphs",
        train=classes.drawn(train, counts, [seed, TRAIN]),
        test=classes.drawn(test, np.full_like(counts, test_per_class), [seed, TEST]),
        val=classes.drawn(train, each, [seed, VALIDATION]) if validation_per_class else None,
        augment="shift",
        notes=tuple(notes),
    )


def _stripes(order: npt.NDArray[np.int_], counts: npt.NDArray[np.int64]) -> dict[int, int]:
    """Give each class of the tail its stripes, by its character: neighbours in count must be none in stripes."""
    rare = by_rank(ClassCounts(counts)).tasks[1]
    return dict(zip(rare.tolist(), np.argsort(np.argsort(order[rare])).tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class _Classes:
    """The classes, the most frequent first.

    Args:
        names: Their characters.
        order: ``(C,)`` where each stands in the embedded file.
        mismatch: 0 to 1.
        stripes: Kind of stripes of those that it concerns.
    """

    names: tuple[str, ...]
    order: npt.NDArray[np.int_]
    mismatch: float
    stripes: dict[int, int]

    def drawn(self, bitmaps: npt.NDArray[np.uint8], counts: npt.NDArray[np.int64], seed: list[int]) -> Images:
        """Draw ``counts[c]`` pictures of each class from its bitmaps, ``(F, C, H, W)``."""
        pictures = np.concatenate([self._class(bitmaps, c, int(count), seed) for c, count in enumerate(counts)])
        labels = np.repeat(np.arange(len(self.names)), counts)
        return Images.ordered(ArrayPictures(pictures, "glyphs"), labels, self.names)

    def _class(self, bitmaps: npt.NDArray[np.uint8], c: int, count: int, seed: list[int]) -> npt.NDArray[np.uint8]:
        """Draw one class; the seed names the character, so its place in the tail is free."""
        own_seed = [*seed, int(self.order[c])]
        if c in self.stripes:
            return mismatched(bitmaps, c, self.stripes[c], self.mismatch, count, own_seed)
        return distorted(bitmaps[:, c], count, np.random.RandomState(own_seed))
