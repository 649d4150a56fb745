"""The typefaces that come with matplotlib, and one bitmap per character."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from forktail.errors import InputError

# A family is one typeface in four styles. The test family occurs in no training picture and in no symbol.
TRAIN_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
)
TEST_FONTS = ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic")

SIDE = 32  # of a bitmap, in pixels
INK = 28  # longer side of the character in it: the one rule of scale, for every character of every font
DRAWN = 96  # size at which a character is drawn before it is scaled


@dataclass(frozen=True)
class Font:
    """One font file.

    Args:
        name: Its file name, without the ending.
    """

    name: str

    @cached_property
    def characters(self) -> frozenset[str]:
        """The characters that the font itself holds, so that none is drawn as the box for a missing one."""
        path = str(self._file)
        from matplotlib.ft2font import FT2Font  # after the path, whose error names the extra

        return frozenset(map(chr, FT2Font(path).get_charmap()))

    def bitmaps(self, characters: Sequence[str]) -> npt.NDArray[np.uint8]:
        """Draw characters, each scaled to the same longer side and centred.

        Args:
            characters: ``M`` characters that the font holds.

        Returns:
            ``(M, 32, 32)`` grey levels, ink bright on 0.

        Raises:
            InputError: If matplotlib, which brings the fonts, is not installed.
        """
        drawer = ImageFont.truetype(str(self._file), DRAWN)
        return np.stack([_bitmap(drawer, character) for character in characters])

    @cached_property
    def _file(self) -> Path:
        try:
            import matplotlib
        except ImportError:
            found = "matplotlib, whose fonts are drawn, is not installed"
            raise InputError(found, remedy="run `pip install forktail[symbols]`") from None
        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{self.name}.ttf"
        if not path.is_file():
            found = f"matplotlib {matplotlib.__version__} brings no font {path.name}"
            raise InputError(found, expected="the fonts that are drawn", remedy="reinstall matplotlib")
        return path


def _bitmap(drawer: ImageFont.FreeTypeFont, character: str) -> npt.NDArray[np.uint8]:
    left, top, right, bottom = drawer.getbbox(character)
    page = Image.new("L", (int(right - left) + 2, int(bottom - top) + 2))
    ImageDraw.Draw(page).text((1 - left, 1 - top), character, fill=255, font=drawer)
    ink = page.crop(page.getbbox())
    ratio = INK / max(ink.size)
    width, height = (max(1, round(side * ratio)) for side in ink.size)
    bitmap = Image.new("L", (SIDE, SIDE))
    bitmap.paste(ink.resize((width, height), Image.Resampling.LANCZOS), ((SIDE - width) // 2, (SIDE - height) // 2))
    return np.asarray(bitmap)
