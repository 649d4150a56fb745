from __future__ import annotations

import sys

import numpy as np
import pytest

from forktail.data.drawing.fonts import INK, SIDE, TEST_FONTS, TRAIN_FONTS, Font
from forktail.errors import InputError


def test_families_are_apart() -> None:
    assert len(TRAIN_FONTS) == 12
    assert len(TEST_FONTS) == 4
    assert all(name.startswith("DejaVuSerif") for name in TEST_FONTS)
    assert not any(name.startswith("DejaVuSerif") for name in TRAIN_FONTS)


def test_one_rule_of_scale() -> None:
    for bitmap in Font("STIXGeneral").bitmaps(["A", "i", "Ю", "∞"]):
        assert bitmap.shape == (SIDE, SIDE)
        rows, columns = (np.flatnonzero(bitmap.any(axis=axis)) for axis in (1, 0))
        sides = sorted([np.ptp(rows) + 1, np.ptp(columns) + 1])
        assert INK - 1 <= sides[1] <= INK  # soft edges may round away
        assert abs(rows[0] - (SIDE - 1 - rows[-1])) <= 2


def test_characters_are_those_of_the_font_itself() -> None:
    assert "Ж" in Font("DejaVuSans").characters
    assert "漢" not in Font("DejaVuSans").characters


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install forktail\[symbols\]"):
        Font("DejaVuSans").bitmaps(["A"])
    with pytest.raises(InputError, match=r"forktail\[symbols\]"):
        Font("DejaVuSans").characters  # noqa: B018
