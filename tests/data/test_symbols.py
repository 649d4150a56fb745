from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from forktail.data.drawing.fonts import TRAIN_FONTS, Font
from forktail.data.drawing.shapes import TWINS, signatures, similarity
from forktail.data.glyphs import glyphs
from forktail.data.images import ArrayPictures, DataSet
from forktail.data.symbols import symbols


@pytest.fixture(scope="module")
def data() -> DataSet:
    return symbols(per_class=3, test_per_class=1)


def test_eight_hundred_others(data: DataSet) -> None:
    classes = data.train.classes
    assert len(set(classes)) == 800
    assert not set(classes) & set(glyphs(n_max=1, imbalance=1).train.classes)
    np.testing.assert_array_equal(data.train.class_counts(), np.full(800, 3))
    np.testing.assert_array_equal(data.test.class_counts(), np.full(800, 1))


def test_every_symbol_stands_in_four_training_fonts_or_more(data: DataSet) -> None:
    held = [Font(name).characters for name in TRAIN_FONTS]
    assert min(sum(c in characters for characters in held) for c in data.train.classes) >= 4


def test_no_symbol_looks_like_a_class(data: DataSet) -> None:
    """A sample: every seventh symbol of one font against a third of the typefaces; the choice looked at all of both."""
    with (resources.files("forktail.data") / "glyphs.npz").open("rb") as file, np.load(file) as chosen:
        classes = signatures(chosen["bitmaps"][::3].reshape(-1, 32, 32))
    font = Font("DejaVuSans")
    held = [c for c in data.train.classes if c in font.characters][::7]
    likeness = similarity(signatures(font.bitmaps(held)), classes)
    assert likeness.max() <= TWINS


def test_train_and_test_pictures_differ(data: DataSet) -> None:
    assert isinstance(data.train.pictures, ArrayPictures)
    assert isinstance(data.test.pictures, ArrayPictures)
    train = {picture.tobytes() for picture in data.train.pictures.array}
    assert train.isdisjoint(picture.tobytes() for picture in data.test.pictures.array)
    assert data.train.read(0).size == (28, 28)


def test_seeded(data: DataSet) -> None:
    assert symbols(per_class=3, test_per_class=1).train.fingerprint == data.train.fingerprint
    assert symbols(per_class=3, test_per_class=1, seed=1).train.fingerprint != data.train.fingerprint
