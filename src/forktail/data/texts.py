"""Labelled texts in memory, in the place of pictures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from forktail.data.images import Images, IntArray
from forktail.errors import InputError
from forktail.files import read_text


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts that stand in memory; an `Images` of them divides, counts and names them like pictures.

    Args:
        texts: One for each example.

    Example:
        >>> Texts(("a small dog", "a bird")).read(1)
        'a bird'
    """

    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def read(self, position: int) -> str:
        """Return one text."""
        return self.texts[position]

    def name(self, position: int) -> str:
        """Name a text by itself: nothing says better which one it is."""
        return self.texts[position]

    def digest(self, positions: IntArray) -> str:
        """Hash the texts."""
        chosen = [self.texts[position] for position in positions]
        return hashlib.sha256(repr(chosen).encode()).hexdigest()


def are_texts(images: Images) -> bool:
    """Say whether a set holds texts.

    Args:
        images: A set.

    Returns:
        False for pictures.
    """
    return isinstance(images.pictures, Texts)


def texts_in(file: Path) -> list[str]:
    """Read a file of texts.

    Args:
        file: Text in UTF-8.

    Returns:
        Its lines without those that are empty.

    Raises:
        InputError: If it cannot be read, or holds no text.
    """
    expected = "a text file in UTF-8, one text a line"
    texts = [line.strip() for line in read_text(file, expected=expected).split("\n")]
    if not any(texts):
        raise InputError(f"{file}: no text in this file", expected=expected)
    return [text for text in texts if text]
