from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forktail.data.folder import open_folder
from forktail.errors import InputError

Make = Callable[[str, int], list[Path]]


def test_classes_and_pictures_stand_in_natural_order(tmp_path: Path, make_pictures: Make) -> None:
    for name in ("10_x", "2_x", "1_Ж é"):
        make_pictures(name, 2)
    (tmp_path / "2_x" / "000.png").rename(tmp_path / "2_x" / "12.PNG")
    make_pictures("2_x/below", 1)
    splits = open_folder(tmp_path)
    assert splits.train.classes == ("1_Ж é", "2_x", "10_x")
    names = [Path(splits.train.name(i)).relative_to(tmp_path).as_posix() for i in range(len(splits.train))]
    assert names[2:5] == ["2_x/001.png", "2_x/12.PNG", "2_x/below/000.png"]
    np.testing.assert_array_equal(splits.train.labels, [0, 0, 1, 1, 1, 2, 2])
    assert splits.test is None
    assert splits.notes == ()


def test_parts_share_the_classes_of_training(tmp_path: Path, make_pictures: Make) -> None:
    for folder, count in {"train/a": 3, "train/b": 1, "train/c": 2, "test/c": 2, "test/a": 1, "val/b": 1}.items():
        make_pictures(folder, count)
    splits = open_folder(tmp_path)
    assert splits.test is not None
    assert splits.val is not None
    np.testing.assert_array_equal(splits.train.class_counts(), [3, 1, 2])
    np.testing.assert_array_equal(splits.test.class_counts(), [1, 0, 2])
    np.testing.assert_array_equal(splits.val.class_counts(), [0, 1, 0])
    assert splits.test.classes == splits.val.classes == ("a", "b", "c")
    assert splits.name == tmp_path.name


def test_a_class_may_be_called_train(tmp_path: Path, make_pictures: Make) -> None:
    for name in ("train", "bus"):
        make_pictures(name, 2)
    assert open_folder(tmp_path).train.classes == ("bus", "train")


def test_other_files_are_passed_over_and_counted_unless_hidden(tmp_path: Path, make_pictures: Make) -> None:
    for folder in ("train/a", "train/b", "test/a", "extra/a", "train/.hidden", "train/a/.thumbnails"):
        make_pictures(folder, 2)
    for name in ("train/a/Thumbs.db", "train/a/.DS_Store", "test/a/notes.txt", "train/b/._000.png"):
        (tmp_path / name).touch()
    splits = open_folder(tmp_path)
    assert len(splits.train) == 4
    assert splits.notes[0].startswith("2 files")
    assert '"extra"' in splits.notes[1]


def test_class_that_training_lacks_is_named(tmp_path: Path, make_pictures: Make) -> None:
    for folder in ("train/a", "train/b", "test/a", "test/z"):
        make_pictures(folder, 1)
    with pytest.raises(InputError, match='test has classes that the training part lacks: "z"'):
        open_folder(tmp_path)


def test_empty_class_folder(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("a", 1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "readme.txt").touch()
    with pytest.raises(
        InputError, match="b holds no picture; expected one or more in each class; fill it or delete it"
    ):
        open_folder(tmp_path)


def test_a_single_class_folder(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("alone", 2)
    with pytest.raises(InputError, match=r'a single class folder, "alone"; .* two classes or more'):
        open_folder(tmp_path)


@pytest.mark.parametrize("part", ["", "test"])
def test_pictures_without_class_folders(tmp_path: Path, make_pictures: Make, part: str) -> None:
    for folder in ("train/a", "train/b") if part else ():
        make_pictures(folder, 1)
    make_pictures(part, 2)
    with pytest.raises(InputError, match="lie directly in it; expected a folder of pictures for each class"):
        open_folder(tmp_path)


def test_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no class folders"):
        open_folder(tmp_path)


def test_parts_under_other_names_are_not_taken_for_classes(tmp_path: Path, make_pictures: Make) -> None:
    for folder in ("Training/a", "Training/b", "Valid/a"):
        make_pictures(folder, 1)
    with pytest.raises(InputError, match=r"Training holds folders.*; rename Training to train, Valid to val"):
        open_folder(tmp_path)
    make_pictures("c", 1)  # beside other classes, it is one
    assert open_folder(tmp_path).train.classes == ("c", "Training", "Valid")


def test_classes_called_like_parts_are_classes_when_they_hold_pictures(tmp_path: Path, make_pictures: Make) -> None:
    for name in ("Test", "Train"):
        make_pictures(name, 2)
    assert open_folder(tmp_path).train.classes == ("Test", "Train")


def test_a_linked_class_is_a_class_and_a_linked_folder_below_belongs_to_it(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("set/a", 1)
    make_pictures("elsewhere/b", 2)
    make_pictures("more", 3)
    (tmp_path / "set/b").symlink_to(tmp_path / "elsewhere/b")
    (tmp_path / "set/a/more").symlink_to(tmp_path / "more")
    (tmp_path / "set/a/loop").symlink_to(tmp_path / "set/a")
    np.testing.assert_array_equal(open_folder(tmp_path / "set").train.class_counts(), [4, 2])


def test_a_class_that_links_above_itself_would_hold_all_pictures(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("set/a", 1)
    make_pictures("set/b", 1)
    (tmp_path / "set/all").symlink_to(tmp_path)
    with pytest.raises(InputError, match="set/all links to a folder that holds it"):
        open_folder(tmp_path / "set")
