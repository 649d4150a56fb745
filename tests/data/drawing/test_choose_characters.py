from __future__ import annotations

import numpy as np
import pytest

from forktail.data.drawing.choose_characters import _first_of_each_shape, _is_symbol, _letters, _unlike
from forktail.data.drawing.fonts import Font
from forktail.data.drawing.shapes import TWINS, signatures


def test_letters_stand_in_the_stated_order() -> None:
    assert "".join(_letters(frozenset("éЖΩþzA9€a0B"))) == "09ABazΩЖþé"


def test_first_of_each_shape_is_kept() -> None:
    fonts = [Font("DejaVuSans"), Font("STIXGeneral")]
    assert _first_of_each_shape(list("69AАbdpqKoO"), fonts, TWINS) == ["6", "A", "b", "K", "o"]


@pytest.mark.parametrize(
    ("character", "expected"), [("→", True), ("Ж", True), ("é", False), ("𝐀", False), ("(", False)]
)
def test_symbols_are_no_letters_in_another_dress(character: str, expected: bool) -> None:
    assert _is_symbol(character, frozenset("Ae")) is expected


def test_what_looks_like_a_class_or_like_nothing_is_dropped() -> None:
    font = Font("DejaVuSans")
    classes = signatures(font.bitmaps(["A", "6"]))
    assert _unlike(["→", "9", "А", "\u2800", "Ж"], classes, [font]) == ["→", "Ж"]
    np.testing.assert_array_equal(font.bitmaps(["\u2800"]), np.zeros((1, 32, 32)))
