"""``symbols``: pictures of 800 other characters, to pretrain on before ``glyphs``."""

from __future__ import annotations

import numpy as np

from forktail.data.drawing.distort import distorted
from forktail.data.drawing.fonts import TRAIN_FONTS, Font
from forktail.data.embedded import embedded
from forktail.data.images import ArrayPictures, DataSet, Images


def symbols(per_class: int = 60, test_per_class: int = 5, seed: int = 0) -> DataSet:
    """Make the pictures: 28 x 28, grey, distorted as those of ``glyphs`` are.

    800 characters that are no class of ``glyphs`` and look like none of them up to an affine map in any typeface:
    letters of other alphabets (Armenian, Georgian, Hebrew, Arabic, Lao, ...), letters of the same alphabets that are
    not among the 100, mathematical operators, arrows, shapes. Each is drawn in the training fonts of ``glyphs`` that
    hold it, 4 to 12 of them, never in the test family.

    The characters are listed in the package; their bitmaps are drawn when this is called, so the bits may differ
    between versions of matplotlib and Pillow.

    Args:
        per_class: Training images of every symbol.
        test_per_class: Test images of every symbol, in the same fonts.
        seed: All chance in the pictures.

    Returns:
        The data set, balanced.

    Raises:
        InputError: If matplotlib, whose fonts are drawn, is not installed.
    """
    characters = embedded("symbols").tolist()
    drawings: dict[str, list[np.ndarray]] = {character: [] for character in characters}
    for font in map(Font, TRAIN_FONTS):
        held = [character for character in characters if character in font.characters]
        for character, bitmap in zip(held, font.bitmaps(held), strict=True):
            drawings[character].append(bitmap)
    drawn = np.stack(
        [
            distorted(np.stack(drawings[character]), per_class + test_per_class, np.random.RandomState([seed, c]))
            for c, character in enumerate(characters)
        ]
    )  # (C, per_class + test_per_class, 28, 28)
    return DataSet(
        name="symbols",
        train=_split(drawn[:, :per_class], tuple(characters)),
        test=_split(drawn[:, per_class:], tuple(characters)),
        val=None,
        augment="shift",
    )


def _split(drawn: np.ndarray, classes: tuple[str, ...]) -> Images:
    labels = np.repeat(np.arange(len(classes)), drawn.shape[1])
    return Images.ordered(ArrayPictures(drawn.reshape(-1, *drawn.shape[2:]), "symbols"), labels, classes)
