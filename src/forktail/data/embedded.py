"""The drawings that ship with the package: characters, and bitmaps of those of ``glyphs``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from forktail.errors import InputError
from forktail.files import reason

FILE = Path(__file__).with_name("glyphs.npz")


@cache
def embedded(name: str) -> npt.NDArray[Any]:
    """Read an array that ships with the package.

    Args:
        name: ``classes`` and ``bitmaps`` of `glyphs`, or ``symbols``, the characters of `symbols`.

    Returns:
        The array.

    Raises:
        InputError: If the installation is damaged.
    """
    try:
        with FILE.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            array: npt.NDArray[Any] = stored[name]
    except Exception as error:  # numpy, zipfile and zlib may raise anything on a damaged file
        found = f"{FILE.name}, which ships with the package: {reason(error)}"
        raise InputError(found, expected="a whole installation", remedy="reinstall forktail") from None
    return array
