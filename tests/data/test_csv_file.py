from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from forktail.data.csv_file import open_csv
from forktail.errors import InputError

Make = Callable[[str, int], list[Path]]


@pytest.fixture
def write(tmp_path: Path, make_pictures: Make) -> Callable[..., Path]:
    make_pictures("p", 6)

    def write_csv(text: str, name: str = "data.csv") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write_csv


def test_columns_in_any_order_and_quoted_fields(write: Callable[..., Path]) -> None:
    splits = open_csv(write('label,other,path\n"big, red",1,p/000.png\nblue,2,p/001.png\n'))
    assert splits.train.classes == ("big, red", "blue")
    assert splits.test is None


def test_split_column(write: Callable[..., Path]) -> None:
    rows = ["0,train", "1,train", "1,test", "0,val", "0,train"]
    text = "path,label,split\n" + "".join(f"p/{i:03d}.png,{row}\n" for i, row in enumerate(rows))
    splits = open_csv(write(text))
    assert splits.test is not None
    assert splits.val is not None
    np.testing.assert_array_equal(splits.train.class_counts(), [2, 1])
    assert Path(splits.test.name(0)).name == "002.png"
    assert Path(splits.val.name(0)).name == "003.png"


def test_second_file_tabs_and_root(tmp_path: Path, write: Callable[..., Path]) -> None:
    (tmp_path / "tables").mkdir()
    train = write("path\tlabel\n000.png\ta\n001.png\tb\n", "tables/train.tsv")
    test = write("path,label\n002.png,b\n", "test.csv")
    splits = open_csv(train, test, root=tmp_path / "p")
    assert splits.test is not None
    np.testing.assert_array_equal(splits.test.labels, [1])


def test_files_of_two_folders_are_each_relative_to_their_own(tmp_path: Path, write: Callable[..., Path]) -> None:
    train = write("path,label,split\n000.png,a,train\n001.png,b,train\n002.png,a,test\n", "p/train.csv")
    test = write("path,label\np/003.png,b\n", "test.csv")
    splits = open_csv(train, test)
    assert splits.test is not None
    assert [splits.test.read(i).size for i in range(2)] == [(6, 6), (6, 6)]
    np.testing.assert_array_equal(splits.test.labels, [0, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", "line 1: columns file, label; expected path, label"),
        ("", "line 1: columns none"),
        ("path,label\n", "holds no rows"),
        ("path;label\n", "columns path;label; expected .*separated by commas; there is no column"),
        ("path,label,path\n", "each once; rename or delete the repeated column"),
        ("path,label\np/000.png,big, red\n", "line 2: 3 fields; expected 2"),
        ('path,label\n"p/000.png,a\n', "line 2: .*; close or remove the quotes"),
        ("path,label\np\0/000.png,a\n", r"line 2: no file .*p\\x00/000.png"),
        ("path,label\np/000.png\n", "line 2: 1 fields; expected 2, as in the header"),
        ("path,label\np/000.png,\n", "line 2: the field label is empty"),
        (
            "path,label,split\np/000.png,a,tset\n",
            'line 2: split "tset"; expected train, test, val; did you mean "test"',
        ),
        ("path,label\np/000.png,a\np/009.png,b\n", r"line 3: no file .*009.png \(1 of 2 files missing\)"),
        ("path,label,split\np/000.png,a,train\np/001.png,b,train\np/002.png,c,test\n", 'line 4: .* class "c"'),
        ("path,label,split\np/000.png,a,test\n", "0 classes in the training rows"),
    ],
)
def test_bad_files(write: Callable[..., Path], text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_csv(write(text))


def test_space_round_a_field_and_empty_columns_of_a_spreadsheet_are_no_matter(write: Callable[..., Path]) -> None:
    splits = open_csv(write("path , label,,\np/000.png, a,,\n p/001.png,b ,,\n\n"))
    assert splits.train.classes == ("a", "b")


def test_a_byte_order_mark_and_any_line_ends(tmp_path: Path, write: Callable[..., Path]) -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        (tmp_path / "b.csv").write_bytes(
            b"\xef\xbb\xbf" + end.join([b"path,label", b"p/000.png,a", b'"p/001.png",b', b""])
        )
        assert open_csv(tmp_path / "b.csv").train.classes == ("a", "b")
