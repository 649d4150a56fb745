from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from forktail.data.drawing.fonts import TEST_FONTS, TRAIN_FONTS, Font
from forktail.data.drawing.shapes import ANGLES, TWINS, signatures, similarity

TURNS = [
    *["AА", "AΑ", "BВ", "HН", "ΓL", "ΛV"],
    *["oO", "cC", "sS", "xX", "vV", "zZ", "wW", "0O", "Il"],
    *["69", "bd", "bp", "bq", "dp", "pq", "un", "WM", "ZN", "mш", "eə", "ЯR", "3З"],
]


@pytest.fixture(scope="module")
def fonts() -> list[Font]:
    return [Font(name) for name in TRAIN_FONTS + TEST_FONTS]


@pytest.mark.parametrize("pair", TURNS)
def test_known_twins_are_flagged(pair: str, fonts: list[Font]) -> None:
    likeness = [similarity(*(signatures(font.bitmaps([c])) for c in pair)).item() for font in fonts]
    assert max(likeness) > TWINS


@pytest.mark.parametrize("pair", ["AB", "4K", "ЖΨ", "2Ю", "ßm", "kΩ"])
def test_different_letters_are_not(pair: str, fonts: list[Font]) -> None:
    likeness = [similarity(*(signatures(font.bitmaps([c])) for c in pair)).item() for font in fonts]
    assert max(likeness) < TWINS


def polygon(corners: list[tuple[float, float]], matrix: np.ndarray, side: int = 48) -> np.ndarray:
    """Draw a polygon after an affine map, with soft edges."""
    page = Image.new("L", (8 * side, 8 * side))
    moved = np.array(corners) @ matrix.T * 8 * side / 2 + 4 * side
    ImageDraw.Draw(page).polygon([tuple(p) for p in moved.tolist()], fill=255)
    return np.asarray(page.resize((side, side), Image.Resampling.BOX))


FLAG = [(-0.5, -0.5), (0.5, -0.3), (-0.2, 0.0), (-0.3, 0.5), (-0.5, 0.5)]  # no symmetry of its own
MAPS = {
    "turned": np.array([[0.6, -0.8], [0.8, 0.6]]),
    "mirrored": np.array([[-1.0, 0.0], [0.0, 1.0]]),
    "slanted": np.array([[1.0, 0.5], [0.0, 1.0]]),
    "stretched": np.array([[1.2, 0.0], [0.0, 0.6]]),
    "all": np.array([[0.3, 0.9], [0.9, -0.4]]),
}


@pytest.mark.parametrize("name", MAPS)
def test_no_affine_map_changes_a_shape(name: str) -> None:
    shapes = signatures(np.stack([polygon(FLAG, np.eye(2)), polygon(FLAG, MAPS[name])]))
    assert similarity(shapes, shapes)[0, 1] > 0.97


def test_another_polygon_is_another_shape() -> None:
    star = [(np.cos(t) * r, np.sin(t) * r) for t, r in zip(np.arange(8) * np.pi / 4, [0.9, 0.3] * 4, strict=True)]
    shapes = signatures(np.stack([polygon(FLAG, np.eye(2)), polygon(star, np.eye(2))]))
    assert similarity(shapes, shapes)[0, 1] < TWINS


def test_similarity_against_a_loop_over_angles() -> None:
    """The oracle turns and mirrors the whitened polar pictures themselves."""
    font = Font("DejaVuSans")
    shapes = signatures(font.bitmaps(["R", "Я", "k", "9"]))
    pictures = np.fft.irfft(shapes.spectrum, ANGLES, axis=2)
    expected = np.empty((4, 4))
    for i, first in enumerate(pictures):
        for j, second in enumerate(pictures):
            mirrored = np.roll(second[:, ::-1], 1, axis=1)
            expected[i, j] = max(
                float((first * np.roll(turned, step, axis=1)).sum())
                for turned in (second, mirrored)
                for step in range(ANGLES)
            )
    np.testing.assert_allclose(similarity(shapes, shapes), expected, atol=1e-5)
    np.testing.assert_allclose(np.diag(expected), 1, atol=1e-5)


def test_blocks_do_not_change_the_result() -> None:
    shapes = signatures(np.random.RandomState(0).randint(0, 256, (70, 12, 12), np.uint8))
    few = signatures(np.random.RandomState(1).randint(0, 256, (3, 12, 12), np.uint8))
    np.testing.assert_allclose(similarity(shapes, few), similarity(few, shapes).T, atol=1e-5)


def test_no_ink_is_an_error() -> None:
    with pytest.raises(ValueError, match="bitmap 1 holds no ink"):
        signatures(np.stack([np.ones((4, 4), np.uint8), np.zeros((4, 4), np.uint8)]))
