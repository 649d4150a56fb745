from __future__ import annotations

import hashlib
import subprocess
import sys
import unicodedata
from importlib import resources

import numpy as np
import pytest

from forktail.data.drawing.fonts import TEST_FONTS, TRAIN_FONTS, Font
from forktail.data.drawing.shapes import TWINS, signatures, similarity
from forktail.data.glyphs import glyphs
from forktail.data.images import ArrayPictures, DataSet, Images
from forktail.errors import InputError

EMBEDDED = resources.files("forktail.data") / "glyphs.npz"


@pytest.fixture(scope="module")
def data() -> DataSet:
    return glyphs()


@pytest.fixture(scope="module")
def clean() -> tuple[list[str], np.ndarray]:
    with EMBEDDED.open("rb") as file, np.load(file, allow_pickle=False) as chosen:
        return chosen["classes"].tolist(), chosen["bitmaps"]


def pixels(images: Images) -> np.ndarray:
    assert isinstance(images.pictures, ArrayPictures)
    return images.pictures.array


def test_no_two_classes_share_a_shape_in_any_typeface(clean: tuple[list[str], np.ndarray]) -> None:
    classes, bitmaps = clean
    for font, drawn in zip(TRAIN_FONTS + TEST_FONTS, bitmaps, strict=True):
        shapes = signatures(drawn)
        likeness = similarity(shapes, shapes)
        np.fill_diagonal(likeness, 0)
        i, j = np.unravel_index(likeness.argmax(), likeness.shape)
        assert likeness[i, j] <= TWINS, f"{classes[i]} and {classes[j]} in {font}"


def test_a_twin_among_the_classes_would_be_seen(clean: tuple[list[str], np.ndarray]) -> None:
    """The check above can fail: add the twins of two classes in each alphabet and it does."""
    classes, bitmaps = clean
    for kept, twin in [("A", "А"), ("C", "с"), ("6", "9"), ("M", "W"), ("N", "Z"), ("X", "х"), ("T", "т")]:
        font_likeness = [
            similarity(signatures(drawn[[classes.index(kept)]]), signatures(Font(name).bitmaps([twin]))).item()
            for name, drawn in zip(TRAIN_FONTS + TEST_FONTS, bitmaps, strict=True)
        ]
        assert max(font_likeness) > TWINS, f"{kept} and {twin}"


def test_embedded_bitmaps_are_the_fonts_own(clean: tuple[list[str], np.ndarray]) -> None:
    classes, bitmaps = clean
    for name, drawn in zip(TRAIN_FONTS + TEST_FONTS, bitmaps, strict=True):
        font = Font(name)
        assert font.characters.issuperset(classes)
        difference = np.abs(font.bitmaps(classes).astype(int) - drawn)
        assert difference.mean() < 2  # another version of the drawing library may soften edges otherwise


def test_embedded_file_is_small() -> None:
    with EMBEDDED.open("rb") as file:
        assert len(file.read()) < 1_000_000


def test_a_hundred_letters_and_digits(data: DataSet) -> None:
    classes = data.train.classes
    assert len(set(classes)) == 100
    alphabets = {unicodedata.name(c).split()[0] for c in classes}
    assert alphabets == {"LATIN", "GREEK", "CYRILLIC", "DIGIT"}
    assert data.test.classes == classes


def test_counts(data: DataSet) -> None:
    counts = data.train.class_counts()
    np.testing.assert_array_equal(counts, [int(200 * 100 ** (-c / 99)) for c in range(100)])
    assert len(data.train) == 4311
    np.testing.assert_array_equal(data.test.class_counts(), np.full(100, 25))
    assert data.val is None


def test_bits_are_pinned(data: DataSet) -> None:
    """If this fails, published numbers on glyphs are no longer comparable: it may only change with a new name."""
    content = hashlib.sha256(pixels(data.train).tobytes() + pixels(data.test).tobytes())
    content.update("".join(data.train.classes).encode())
    assert content.hexdigest() == "5f026da9a63e621d8b6d989e93da008199b1393a8d428f5f7d544696481ec7d8"


def test_test_typefaces_never_occur_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank the test family's bitmaps: training pictures stay, test pictures lose their ink; and the reverse."""
    from forktail.data import glyphs as module

    stored = {name: module.embedded(name) for name in ("classes", "bitmaps")}
    usual = glyphs(n_max=3, imbalance=1, test_per_class=2)
    for blank, changed in [(slice(12, 16), "test"), (slice(0, 12), "train")]:
        emptied = stored["bitmaps"].copy()
        emptied[blank] = 0
        changed_file = stored | {"bitmaps": emptied}
        monkeypatch.setattr(module, "embedded", changed_file.__getitem__)
        other = glyphs(n_max=3, imbalance=1, test_per_class=2)
        for split in ("train", "test"):
            same = [
                bool((a == b).all())
                for a, b in zip(pixels(getattr(usual, split)), pixels(getattr(other, split)), strict=True)
            ]
            assert (not any(same)) if split == changed else all(same)


def test_a_class_keeps_its_pictures_when_counts_change(data: DataSet) -> None:
    small = glyphs(imbalance=200).train
    for c in (0, 50, 99):
        mine = pixels(data.train)[data.train.labels == c]
        np.testing.assert_array_equal(pixels(small)[small.labels == c], mine[: small.class_counts()[c]])


def test_seed_changes_order_and_pictures(data: DataSet) -> None:
    other = glyphs(seed=1)
    assert other.train.classes != data.train.classes
    assert sorted(other.train.classes) == sorted(data.train.classes)
    c, d = data.train.classes.index("M"), other.train.classes.index("M")
    first, second = pixels(data.test)[data.test.labels == c], pixels(other.test)[other.test.labels == d]
    assert not (first == second).all(axis=(1, 2)).any()


def test_head_is_not_alphabetic(data: DataSet) -> None:
    classes = list(data.train.classes)
    assert classes != sorted(classes)


@pytest.mark.parametrize("arguments", [{"test_per_class": 0}, {"seed": -1}])
def test_bad_arguments(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected test_per_class of at least 1"):
        glyphs(**arguments)  # type: ignore[arg-type]


def test_importing_needs_neither_torch_nor_matplotlib() -> None:
    use = "import sys, forktail.data.glyphs as module; module.glyphs(n_max=1, imbalance=1)"
    code = f"{use}; print({{'torch', 'matplotlib'}} & set(sys.modules))"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert got.stdout.strip() == "set()"
