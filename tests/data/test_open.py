from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forktail.data.images import Images
from forktail.data.open import DataSpec, open_data, open_labelled
from forktail.errors import InputError

Make = Callable[..., list[Path]]


def same_pictures(first: Images, second: Images) -> None:
    np.testing.assert_array_equal(first.labels, second.labels)
    for i in range(len(first)):
        np.testing.assert_array_equal(np.asarray(first.read(i)), np.asarray(second.read(i)))


def test_a_named_set_and_its_export_as_a_folder_are_the_same(
    tmp_path: Path, write_fashion_mnist: Callable[..., np.ndarray]
) -> None:
    write_fashion_mnist(tmp_path / "idx", per_class=12)
    whole = open_data(DataSpec("fashion-mnist", root=str(tmp_path / "idx")))
    for part in ("train", "test"):
        images: Images = getattr(whole, part)
        for c, name in enumerate(images.classes):
            folder = tmp_path / "png" / part / f"{c}_{name.replace('/', ' ')}"
            folder.mkdir(parents=True)
            for place, i in enumerate(np.flatnonzero(images.labels == c)):
                images.read(int(i)).convert("L").save(folder / f"{place:05d}.png")
    wanted = {"imbalance": 2, "n_max": 12, "validation": True, "seed": 3}
    named = open_data(DataSpec("fashion-mnist", root=str(tmp_path / "idx"), **wanted))  # type: ignore[arg-type]
    folder_set = open_data(DataSpec(str(tmp_path / "png"), **wanted))  # type: ignore[arg-type]
    assert named.val is not None
    assert folder_set.val is not None
    assert len(named.val) > 0
    same_pictures(named.train, folder_set.train)
    same_pictures(named.val, folder_set.val)
    same_pictures(named.test, folder_set.test)
    assert named.augment == folder_set.augment == "shift-flip"


def test_single_folder_gives_a_test_part_before_the_tail_is_carved(tmp_path: Path, make_pictures: Make) -> None:
    for name, count in {"a": 10, "b": 10, "c": 10}.items():
        make_pictures(name, count)
    data = open_data(DataSpec(str(tmp_path), imbalance=4, validation=True))
    np.testing.assert_array_equal(data.test.class_counts(), [2, 2, 2])
    assert data.val is not None
    np.testing.assert_array_equal(data.val.class_counts(), [1, 4, 6])  # the tail leaves images over but of class a
    np.testing.assert_array_equal(data.train.class_counts(), [7, 4, 2])
    names = [part.name(i) for part in (data.train, data.val, data.test) for i in range(len(part))]
    assert len(set(names)) == len(names)
    assert "no test part" in data.notes[0]
    assert not any("no validation" in note for note in data.notes)


def test_a_class_with_one_picture_stays_in_training_and_is_noted(tmp_path: Path, make_pictures: Make) -> None:
    for name, count in {"many": 10, "one": 1}.items():
        make_pictures(name, count)
    data = open_data(DataSpec(str(tmp_path)))
    np.testing.assert_array_equal(data.train.class_counts(), [8, 1])
    np.testing.assert_array_equal(data.test.class_counts(), [2, 0])
    assert 'no test images: "one".' in data.notes


def test_own_validation_part_is_kept(tmp_path: Path, make_pictures: Make) -> None:
    for part in ("train", "test", "val"):
        for name in ("a", "b"):
            make_pictures(f"{part}/{name}", 6)
    data = open_data(DataSpec(str(tmp_path), validation=True))
    assert data.val is not None
    np.testing.assert_array_equal(data.val.class_counts(), [6, 6])
    np.testing.assert_array_equal(data.train.class_counts(), [6, 6])


@pytest.mark.parametrize(("side", "augment"), [(64, "shift-flip"), (65, "crop-flip")])
def test_size_recommends_the_augmentation(tmp_path: Path, make_pictures: Make, side: int, augment: str) -> None:
    for name in ("a", "b"):
        make_pictures(name, 2, side)
    assert open_data(DataSpec(str(tmp_path))).augment == augment
    assert open_data(DataSpec(str(tmp_path), augment="none")).augment == "none"


def test_unreadable_pictures_stop_or_are_left_out(tmp_path: Path, make_pictures: Make) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            make_pictures(f"{part}/{name}", 8)
    broken = [f"train/a/{i:03d}.png" for i in range(6)] + ["test/b/001.png"]
    for name in broken:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:60])
    with pytest.raises(InputError, match=r"7 pictures cannot be read: .*004.png.* and 2 more; .*unreadable=skip"):
        open_data(DataSpec(str(tmp_path)), workers=2)
    data = open_data(DataSpec(str(tmp_path), unreadable="skip"))
    np.testing.assert_array_equal(data.train.class_counts(), [2, 8])
    np.testing.assert_array_equal(data.test.class_counts(), [8, 7])
    assert data.notes[0].startswith("left out: 7 pictures cannot be read")


def test_class_without_a_readable_picture(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("a", 3)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.jpg").write_text("nothing")
    with pytest.raises(InputError, match='no training images: "b"; left out: 1 picture cannot be read'):
        open_data(DataSpec(str(tmp_path), unreadable="skip"))


def test_every_kind_of_source_by_its_path(tmp_path: Path, make_pictures: Make) -> None:
    paths = make_pictures("p", 8)
    rows = [(path.relative_to(tmp_path).as_posix(), i % 2) for i, path in enumerate(paths)]
    (tmp_path / "l.txt").write_text("".join(f"{path} {label}\n" for path, label in rows))
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in rows))
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    np.savez(tmp_path / "a.npz", x_train=pixels, y_train=[label for _, label in rows])
    first, *others = [open_data(DataSpec(str(tmp_path / name))) for name in ("l.txt", "t.csv", "a.npz")]
    assert len(first.test) == 2
    for other in others:
        same_pictures(first.train, other.train)
        same_pictures(first.test, other.test)
    with_test = open_data(DataSpec(str(tmp_path / "l.txt"), test=str(tmp_path / "l.txt")))
    assert len(with_test.test) == len(with_test.train) == 8


def test_glyphs_take_the_tail_as_their_own() -> None:
    data = open_data(DataSpec("glyphs", n_max=30, imbalance=10, tail="step", validation=True))
    assert data.val is not None
    np.testing.assert_array_equal(data.train.class_counts(), [30] * 50 + [3] * 50)
    np.testing.assert_array_equal(data.val.class_counts(), [10] * 100)
    assert data.augment == "shift"
    assert "typeface" in data.notes[0]


def test_n_max_alone_balances(tmp_path: Path, make_pictures: Make) -> None:
    for part in ("train", "test"):
        for name, count in {"a": 9, "b": 5}.items():
            make_pictures(f"{part}/{name}", count)
    data = open_data(DataSpec(str(tmp_path), n_max=4))
    np.testing.assert_array_equal(data.train.class_counts(), [4, 4])


def test_seed_decides_everything_that_is_drawn(tmp_path: Path, make_pictures: Make) -> None:
    for name in ("a", "b"):
        make_pictures(name, 20)
    spec = {"imbalance": 2, "validation": True}
    first, again, other = (open_data(DataSpec(str(tmp_path), seed=seed, **spec)) for seed in (0, 0, 1))  # type: ignore[arg-type]
    for part in ("train", "val", "test"):
        assert getattr(first, part).fingerprint == getattr(again, part).fingerprint
        assert getattr(first, part).fingerprint != getattr(other, part).fingerprint


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (DataSpec("fashion_mnist"), 'no file, folder or named set "fashion_mnist".*did you mean "fashion-mnist"'),
        (DataSpec("no/such/folder"), "one of: fashion-mnist, glyphs, symbols"),
        (DataSpec("glyphs", root="here"), 'data.root has no meaning for "glyphs"'),
        (DataSpec("glyphs", test="l.txt"), "data.test has no meaning"),
        (DataSpec("."), "has no class folders"),
    ],
)
def test_bad_specifications(spec: DataSpec, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        open_data(spec)


def test_bad_fields() -> None:
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match=rf"data.seed {seed}; expected 0 or more, and less than 2\^32"):
            DataSpec("glyphs", seed=seed)
    with pytest.raises(InputError, match=r'data.unreadable "skipp"; expected stop or skip; did you mean "skip"'):
        DataSpec("glyphs", unreadable="skipp")  # type: ignore[arg-type]


def test_every_message_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no zip")
    (tmp_path / "l.txt").write_text("x 0\ny 1\n")
    for name in ("a.npz", "l.txt", "missing"):
        with pytest.raises(InputError) as caught:
            open_data(DataSpec(str(tmp_path / name)))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["path", "root", "test"])
@pytest.mark.parametrize("value", ["", "\udcff"])
def test_names_that_are_none_are_refused(field: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"data\.{field} .*expected a name or path in Unicode"):
        DataSpec(**({"path": "glyphs"} | {field: value}))  # type: ignore[arg-type]


def test_a_misspelt_path_suggests_its_neighbour(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("pictures/a", 1)
    with pytest.raises(InputError, match=r'did you mean ".*pictures"\?'):
        open_data(DataSpec(str(tmp_path / "pictrues")))


def test_a_class_name_that_json_could_not_hold_is_refused_before_pictures_are_decoded(
    tmp_path: Path, make_pictures: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forktail.data.open.unreadable", lambda *_: pytest.fail("decoded"))
    for name in ("a", "b"):
        make_pictures(name, 1)
    try:
        (tmp_path / "b").rename(tmp_path / "\udcff")
    except OSError:
        pytest.skip("this file system takes Unicode alone")
    with pytest.raises(InputError, match=r'a class is called "\\udcff"; expected a name in Unicode'):
        open_data(DataSpec(str(tmp_path)))


def test_a_small_groups_part_is_noted_under_the_rule_of_the_recipe(tmp_path: Path, make_pictures: Make) -> None:
    for name, count in {"a": 12, "b": 6, "c": 3}.items():
        make_pictures(name, count)
    notes = open_data(DataSpec(str(tmp_path))).notes
    assert "the shot group few has 4 test images, fewer than 10: its accuracy says little." in notes
    notes = open_data(DataSpec(str(tmp_path)), shots="quantile").notes
    assert sum("the shot group" in note for note in notes) == 3


def test_pictures_to_measure_on_may_be_left_out_with_a_note(tmp_path: Path, make_pictures: Make) -> None:
    for name in ("a", "b"):
        make_pictures(name, 2)
    (tmp_path / "b/x.png").write_text("no picture")
    spec = DataSpec(str(tmp_path), unreadable="skip")
    images, notes = open_labelled(spec)
    assert len(images) == 4
    assert notes[0].startswith("left out: 1 picture cannot be read")
    for path in tmp_path.glob("*/*.png"):
        path.write_text("no picture")
    with pytest.raises(InputError, match="no images to measure on; left out: 5 pictures"):
        open_labelled(spec)
