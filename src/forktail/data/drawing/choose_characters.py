"""Choose the classes of ``glyphs`` and the characters of ``symbols`` and write them to ``glyphs.npz``.

Run once, with the fonts of matplotlib 3.11, as ``python -m forktail.data.drawing.choose_characters``: the file is part
of the package so that no later version of a font or of a drawing library can change the data set.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forktail.data.drawing.fonts import TEST_FONTS, TRAIN_FONTS, Font
from forktail.data.drawing.shapes import TWINS, Signatures, signatures, similarity

NUM_CLASSES = 100
NUM_SYMBOLS = 800
SYMBOL_TWINS = 0.95  # between symbols: arrows that point elsewhere may be alike, copies may not
DRAWABLE = {
    "Lu",
    "Ll",
    "Lo",
    "Lm",
    "Nd",
    "Nl",
    "No",
    "Sm",
    "Sc",
    "So",
    "Po",
}  # the rest is accents, spaces and brackets


def main() -> None:
    """Choose, draw and write."""
    fonts = [Font(name) for name in TRAIN_FONTS + TEST_FONTS]
    letters = _letters(frozenset.intersection(*(font.characters for font in fonts)))
    classes = _first_of_each_shape(letters, fonts, TWINS)[:NUM_CLASSES]
    bitmaps = np.stack([font.bitmaps(classes) for font in fonts])
    symbols = _symbols(letters, classes, bitmaps, fonts[: len(TRAIN_FONTS)])
    path = Path(__file__).parents[1] / "glyphs.npz"
    np.savez_compressed(path, classes=np.array(classes), symbols=np.array(symbols), bitmaps=bitmaps)


def _letters(characters: frozenset[str]) -> list[str]:
    """Order letters and digits: digits, A-Z, a-z, Greek, Cyrillic, other Latin, and last those with accents."""
    rank = {c: _rank(c) for c in characters}
    return sorted((c for c in characters if rank[c] is not None), key=lambda c: (rank[c], c))


def _rank(character: str) -> int | None:
    alphabet, _, rest = unicodedata.name(character, "").partition(" ")
    if unicodedata.category(character) not in {"Lu", "Ll", "Lo", "Nd"}:
        return None
    if unicodedata.normalize("NFKD", character) != character:
        return 6 if alphabet in {"LATIN", "GREEK", "CYRILLIC"} else None
    if alphabet == "LATIN" and character.isascii():
        return 1 if rest.startswith("CAPITAL") else 2
    return {"DIGIT": 0, "GREEK": 3, "CYRILLIC": 4, "LATIN": 5}.get(alphabet)


def _first_of_each_shape(characters: Sequence[str], fonts: Sequence[Font], limit: float) -> list[str]:
    """Keep, in order, every character that is like none that was kept, in any font that holds both."""
    likeness = np.zeros((len(characters), len(characters)), np.float32)
    for font in fonts:
        held = np.array([i for i, c in enumerate(characters) if c in font.characters])
        shapes = signatures(font.bitmaps([characters[i] for i in held]))
        place = np.ix_(held, held)
        likeness[place] = np.maximum(likeness[place], similarity(shapes, shapes))
    kept: list[int] = []
    for i in range(len(characters)):
        if not (likeness[i, kept] > limit).any():
            kept.append(i)
    return [characters[i] for i in kept]


def _symbols(
    letters: Sequence[str], classes: Sequence[str], bitmaps: npt.NDArray[np.uint8], fonts: Sequence[Font]
) -> list[str]:
    """Choose other characters, those first that most training fonts hold, none like a class in any typeface."""
    num_fonts = {c: sum(c in font.characters for font in fonts) for font in fonts for c in font.characters}
    others = [c for c in num_fonts.keys() - set(classes) if _is_symbol(c, frozenset(letters))]
    others.sort(key=lambda c: (-num_fonts[c], c))
    unlike = _unlike(others, signatures(bitmaps.reshape(-1, *bitmaps.shape[2:])), fonts)
    return _first_of_each_shape(unlike[: 2 * NUM_SYMBOLS], fonts, SYMBOL_TWINS)[:NUM_SYMBOLS]


def _is_symbol(character: str, letters: frozenset[str]) -> bool:
    """Whether a character can be drawn and is no letter in another dress (an accent, a style)."""
    base = unicodedata.normalize("NFKD", character)
    return unicodedata.category(character) in DRAWABLE and (base == character or letters.isdisjoint(base))


def _unlike(characters: Sequence[str], classes: Signatures, fonts: Sequence[Font]) -> list[str]:
    """Drop the characters that look like a class, or like nothing, in any of the fonts."""
    dropped: set[str] = set()
    for font in fonts:
        held = np.array([c for c in characters if c in font.characters])
        bitmaps = font.bitmaps(held.tolist())
        inked = bitmaps.any(axis=(1, 2))
        nearest = similarity(signatures(bitmaps[inked]), classes).max(axis=1)
        dropped.update(held[~inked].tolist(), held[inked][nearest > TWINS].tolist())
    return [c for c in characters if c not in dropped]


if __name__ == "__main__":
    main()
