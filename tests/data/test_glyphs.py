from __future__ import annotations

import hashlib
import subprocess
import sys
import unicodedata
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from forktail.data.drawing.fonts import TEST_FONTS, TRAIN_FONTS, Font
from forktail.data.drawing.shapes import TWINS, signatures, similarity
from forktail.data.glyphs import _stripes, glyphs
from forktail.data.images import ArrayPictures, DataSet, Images
from forktail.data.longtail import Tail, tail_counts
from forktail.data.open import DataSpec, open_data
from forktail.errors import InputError
from forktail.labels import ClassCounts, by_rank

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


@pytest.mark.parametrize(
    ("mismatch", "digest"),
    [
        (0.5, "b1a49ca766fa4606407645ad8792626bb9279dbde30d2bb27120fc70e914bdde"),
        (1.0, "f8ad16362c4a9a79e01bc2863ef023f0e42e557155b0dfba8a1542f188da8f80"),
    ],
)
def test_bits_of_a_mismatch_are_pinned(mismatch: float, digest: str) -> None:
    drawn = glyphs(n_max=10, imbalance=10, test_per_class=2, mismatch=mismatch)
    assert hashlib.sha256(pixels(drawn.train).tobytes() + pixels(drawn.test).tobytes()).hexdigest() == digest


def test_validation_pictures_are_drawn_for_themselves() -> None:
    drawn = glyphs(n_max=5, imbalance=1, test_per_class=5, validation_per_class=5)
    assert drawn.val is not None
    np.testing.assert_array_equal(drawn.val.labels, drawn.train.labels)
    seen = {picture.tobytes() for part in (drawn.train, drawn.test) for picture in pixels(part)}
    assert len(seen) == 1000
    assert not any(picture.tobytes() in seen for picture in pixels(drawn.val))
    without = glyphs(n_max=5, imbalance=1, test_per_class=5)
    assert without.val is None
    np.testing.assert_array_equal(pixels(without.train), pixels(drawn.train))


@pytest.mark.parametrize(
    ("mismatch", "imbalance", "tail"), [(0.25, 10, "exponential"), (1, 5, "step"), (1, 1, "exponential")]
)
def test_the_tail_alone_is_drawn_otherwise(mismatch: float, imbalance: float, tail: Tail) -> None:
    """Whatever the shape of the tail, its classes are those of the tail task, with a validation part held out, too."""
    spec = DataSpec("glyphs", n_max=10, imbalance=imbalance, tail=tail, validation=True)
    usual, other = open_data(spec), open_data(replace(spec, mismatch=mismatch))
    head, rare = by_rank(ClassCounts(other.train.class_counts())).tasks
    assert len(head) == len(rare) == 50
    for before, after in ((usual.train, other.train), (usual.val, other.val), (usual.test, other.test)):
        assert before is not None
        assert after is not None
        np.testing.assert_array_equal(before.labels, after.labels)
        same = (pixels(before)[before.positions] == pixels(after)[after.positions]).all(axis=(1, 2))
        np.testing.assert_array_equal(same, np.isin(before.labels, head))
    assert [any("mismatch" in note for note in data.notes) for data in (usual, other)] == [False, True]


def test_at_1_a_class_of_the_tail_is_told_by_its_stripes_alone() -> None:
    """The mean spectrum of a class in training finds its test pictures, in fonts that it never saw."""
    shapes, stripes = (
        spectral_accuracy(glyphs(n_max=20, imbalance=1, test_per_class=5, mismatch=m), np.arange(50, 100))
        for m in (0, 1)
    )
    assert shapes < 0.3
    assert stripes > 0.7


def spectral_accuracy(data: DataSet, classes: np.ndarray) -> float:
    train, test = (np.log(np.abs(np.fft.rfft2(pixels(part))) + 1) for part in (data.train, data.test))
    means = np.stack([train[data.train.labels == c].mean(axis=0) for c in classes])
    kept = np.isin(data.test.labels, classes)
    distances = ((test[kept][:, None] - means) ** 2).sum(axis=(2, 3))
    return float((classes[distances.argmin(axis=1)] == data.test.labels[kept]).mean())


def test_stripes_of_neighbours_in_count_are_no_neighbours() -> None:
    order = np.random.RandomState(0).permutation(100)
    given = _stripes(order, np.arange(100, 0, -1))
    assert list(given) == list(range(50, 100))
    assert sorted(given.values()) == list(range(50))
    assert abs(np.corrcoef(list(given), list(given.values()))[0, 1]) < 0.3


def test_stripes_belong_to_the_character() -> None:
    order = np.random.RandomState(0).permutation(100)
    steep, flat = (_stripes(order, tail_counts(100, 200, imbalance)) for imbalance in (200, 1))
    assert steep == flat


def test_a_mismatch_has_a_meaning_for_glyphs_alone() -> None:
    for path in ("symbols", "fashion-mnist", "pictures"):
        with pytest.raises(InputError, match=rf'data\.mismatch has no meaning for "{path}"; expected it with glyphs'):
            open_data(DataSpec(path, mismatch=0.5))
    for mismatch in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=r"data\.mismatch = .*expected 0"):
            DataSpec("glyphs", mismatch=mismatch)
        with pytest.raises(InputError, match=r"mismatch .* of glyphs"):
            glyphs(mismatch=mismatch)


def test_bits_are_pinned(data: DataSet) -> None:
    """If this fails, published numbers on glyphs are no longer comparable: it may only change with a new name."""
    content = hashlib.sha256(pixels(data.train).tobytes() + pixels(data.test).tobytes())
    content.update("".join(data.train.classes).encode())
    assert content.hexdigest() == "5f026da9a63e621d8b6d989e93da008199b1393a8d428f5f7d544696481ec7d8"


@pytest.mark.parametrize("mismatch", [0, 1])
def test_test_typefaces_never_occur_in_training(mismatch: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank the test family's bitmaps: training pictures stay, test pictures lose their ink; and the reverse."""
    from forktail.data import glyphs as module

    stored = {name: module.embedded(name) for name in ("classes", "bitmaps")}
    usual = glyphs(n_max=3, imbalance=1, test_per_class=2, mismatch=mismatch)
    for blank, changed in [(slice(12, 16), "test"), (slice(0, 12), "train")]:
        emptied = stored["bitmaps"].copy()
        emptied[blank] = 0
        changed_file = stored | {"bitmaps": emptied}
        monkeypatch.setattr(module, "embedded", changed_file.__getitem__)
        other = glyphs(n_max=3, imbalance=1, test_per_class=2, mismatch=mismatch)
        for split in ("train", "test"):
            same = [
                bool((a == b).all())
                for a, b in zip(pixels(getattr(usual, split)), pixels(getattr(other, split)), strict=True)
            ]
            assert (not any(same)) if split == changed else all(same)


@pytest.mark.parametrize("mismatch", [0, 0.5])
def test_a_class_keeps_its_pictures_when_counts_change(mismatch: float) -> None:
    large, small = (glyphs(n_max=100, imbalance=i, test_per_class=1, mismatch=mismatch).train for i in (50, 100))
    for c in (0, 50, 99):
        mine = pixels(large)[large.labels == c]
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
