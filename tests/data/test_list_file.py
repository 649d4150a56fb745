from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forktail.data.list_file import open_list
from forktail.errors import InputError

Make = Callable[[str, int], list[Path]]


@pytest.fixture
def write(tmp_path: Path, make_pictures: Make) -> Callable[..., Path]:
    make_pictures("some pictures", 6)

    def write_list(*labels: str, name: str = "train.txt", start: int = 0, folder: str = "some pictures/") -> Path:
        lines = [f"{folder}{start + i:03d}.png {label}" for i, label in enumerate(labels)]
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
        return tmp_path / name

    return write_list


def test_numbers(write: Callable[..., Path]) -> None:
    splits = open_list(write("1", "0", "01", "2"))
    assert splits.train.classes == ("0", "1", "2")
    np.testing.assert_array_equal(splits.train.labels, [0, 1, 1, 2])
    np.testing.assert_array_equal(splits.train.positions, [1, 0, 2, 3])
    assert Path(splits.train.name(0)).name == "001.png"
    assert splits.test is None
    assert splits.name == "train"


def test_more_than_ten_numbers_stand_by_value(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("p", 12)
    (tmp_path / "l.txt").write_text("".join(f"p/{i:03d}.png {i}\n" for i in range(12)))
    assert open_list(tmp_path / "l.txt").train.classes == tuple(map(str, range(12)))


def test_names_stand_in_natural_order(write: Callable[..., Path]) -> None:
    splits = open_list(write("x10", "x2", "Ж", "x10"))
    assert splits.train.classes == ("x2", "x10", "Ж")
    np.testing.assert_array_equal(splits.train.class_counts(), [1, 2, 1])


def test_second_list_is_the_test_part(write: Callable[..., Path]) -> None:
    splits = open_list(write("1", "0"), write("1", "1", "0", name="test.txt", start=2))
    assert splits.test is not None
    np.testing.assert_array_equal(splits.test.labels, [0, 1, 1])
    assert splits.test.read(0).size == (6, 6)


def test_root(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write("1", "0", folder="")
    (tmp_path / "lists").mkdir()
    moved = path.rename(tmp_path / "lists" / "l.txt")
    assert len(open_list(moved, root=tmp_path / "some pictures").train) == 2
    with pytest.raises(
        InputError, match=r"l.txt, line 1: no file .*000.png \(2 of 2 files missing\); expected .* set data.root"
    ):
        open_list(moved)


def test_absolute_paths_blank_lines_byte_order_mark_and_carriage_returns(tmp_path: Path, make_pictures: Make) -> None:
    first, second = make_pictures("p", 2)
    (tmp_path / "l.txt").write_bytes(b"\xef\xbb\xbf" + f"{first}\ta\r\n\r\n{second}   b\r\n".encode())
    assert open_list(tmp_path / "l.txt").train.classes == ("a", "b")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("0", "-1"), "train.txt, line 2: label -1; expected 0 or more"),
        (("0", "1", "3"), "class 2 has no training row, but labels go up to 3"),
        (("0", "1000000000"), "class 1 has no training row"),
        (("0", "0"), "1 classes in the training rows"),
        (("a", ""), "train.txt, line 2: "),
        ((), "holds no rows"),
    ],
)
def test_bad_labels(write: Callable[..., Path], labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_list(write(*labels, folder="some" if "" in labels else "some pictures/"))


@pytest.mark.parametrize("labels", [("0", "2"), ("0", "1", "b")])
def test_test_label_that_training_lacks(write: Callable[..., Path], labels: tuple[str, ...]) -> None:
    with pytest.raises(
        InputError, match=f'test.txt, line {len(labels)}: the training rows lack the class "{labels[-1]}"'
    ):
        open_list(write("0", "1"), write(*labels, name="test.txt"))


def test_first_missing_file_is_named_with_its_line(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write("0", "1", "0")
    (tmp_path / "some pictures" / "001.png").unlink()
    with pytest.raises(InputError, match=r"line 2: no file .*001.png \(1 of 3 files missing\)"):
        open_list(path)


def test_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"l.txt, line 1: byte 0xff is no UTF-8; expected a list in UTF-8"):
        open_list(tmp_path / "l.txt")


def test_fingerprint_does_not_depend_on_where_the_folder_lies(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("here/p", 2)
    (tmp_path / "here" / "l.txt").write_text("p/000.png a\np/001.png b\n")
    before = open_list(tmp_path / "here" / "l.txt").train.fingerprint
    (tmp_path / "here").rename(tmp_path / "there")
    assert open_list(tmp_path / "there" / "l.txt").train.fingerprint == before


def test_a_label_with_a_space_is_explained(write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"no file .*000.png big .*; in a list, a label holds no space"):
        open_list(write("big cat", "dog"))


def test_numbers_that_are_read_as_names_are_noted_with_the_first_word(write: Callable[..., Path]) -> None:
    splits = open_list(write("0", "1", "1O"))
    assert splits.train.classes == ("0", "1", "1O")
    assert splits.notes == (
        f'labels were read as names, because "1O" ({write("0", "1", "1O")}, line 3) is no whole number.',
    )


def test_a_picture_with_two_labels_is_an_error_and_a_repeated_one_a_note(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("p", 3)
    path = tmp_path / "l.txt"
    path.write_text("p/000.png a\np/001.png b\np/../p/000.png b\n")
    with pytest.raises(InputError, match=r'line 3: .* has the label "b", but "a" in .*line 1; expected one label'):
        open_list(path)
    path.write_text("p/000.png a\np/001.png b\np/../p/000.png a\n")
    assert open_list(path).notes == ("1 rows repeat a picture of their part; it counts each time.",)


def test_a_picture_of_the_training_in_the_test_is_noted(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("p", 3)
    (tmp_path / "l.txt").write_text("p/000.png 0\np/001.png 1\n")
    (tmp_path / "t.txt").write_text("p/000.png 00\np/002.png 1\n")
    (note,) = open_list(tmp_path / "l.txt", tmp_path / "t.txt").notes
    assert note == "1 pictures stand in two parts: a test on pictures of the training says little."


@pytest.mark.parametrize("label", ["9" * 19, "9" * 5000])
def test_a_number_too_long_for_a_class_is_a_name(write: Callable[..., Path], label: str) -> None:
    assert open_list(write("a", label)).train.classes == (label, "a")


def test_line_ends_of_an_old_system(tmp_path: Path, make_pictures: Make) -> None:
    make_pictures("p", 2)
    (tmp_path / "l.txt").write_bytes(b"p/000.png a\rp/001.png b\r")
    assert open_list(tmp_path / "l.txt").train.classes == ("a", "b")


def test_a_long_line_is_not_repeated_whole(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("x" * 100_000)
    with pytest.raises(InputError) as caught:
        open_list(tmp_path / "l.txt")
    assert len(str(caught.value)) < 500
