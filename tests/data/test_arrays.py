from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forktail.data.arrays import open_arrays
from forktail.errors import InputError

X = np.random.RandomState(0).randint(0, 256, (4, 5, 6), np.uint8)
GOOD: dict[str, Any] = {"x_train": X, "y_train": np.array([1, 0, 2, 0])}


def save(tmp_path: Path, **arrays: Any) -> Path:
    np.savez(tmp_path / "set.npz", **arrays)
    return tmp_path / "set.npz"


def test_grey_with_numbers(tmp_path: Path) -> None:
    splits = open_arrays(save(tmp_path, **GOOD))
    assert splits.train.classes == ("0", "1", "2")
    np.testing.assert_array_equal(splits.train.positions, [1, 3, 0, 2])
    np.testing.assert_array_equal(np.asarray(splits.train.read(0))[:, :, 2], X[1])
    assert splits.train.name(2) == "x_train[0]"
    assert splits.test is None


def test_colour_with_names_and_test_part(tmp_path: Path) -> None:
    colour = X[:, :, :, None].repeat(3, axis=3)
    names = np.array(["x10", "x2", "é", "x2"])
    splits = open_arrays(save(tmp_path, x_train=colour, y_train=names, x_test=colour[:1], y_test=names[:1]))
    assert splits.train.classes == ("x2", "x10", "é")
    assert splits.test is not None
    np.testing.assert_array_equal(splits.test.labels, [1])


def test_classes_name_the_numbers(tmp_path: Path) -> None:
    splits = open_arrays(save(tmp_path, **GOOD, classes=np.array(["cat", "dog", "emu"])))
    assert splits.train.classes == ("cat", "dog", "emu")
    np.testing.assert_array_equal(splits.train.labels, [0, 0, 1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": X / 255}, "x_train is float64"),
        ({"x_train": X[:, None]}, r"x_train is uint8 \(4, 1, 5, 6\); expected uint8 \(N, H, W\)"),
        ({"y_train": np.array([0, 1, 0])}, r"y_train is \(3,\) for 4 pictures"),
        ({"y_train": np.array([0.0, 1, 0, 1])}, "y_train is float64"),
        ({"y_train": np.array([0, 1, 0, 3])}, "y_train holds 3, but no 2"),
        ({"y_train": np.array([-1, 0, 1, 2])}, "y_train holds -1, but no 0"),
        ({"y_train": np.zeros(4, np.int64)}, r'1 classes: "0"; expected two or more'),
        ({"classes": np.array(["a", "b"])}, r"y_train\[2\] is 2; expected one of the 2 classes, a to b"),
        ({"classes": np.array(["a", "b", "a"])}, "all different"),
        ({"x_test": X}, "but no y_test"),
        ({"y_train": np.eye(4)}, r"y_train is \(4, 4\) for 4 pictures; expected \(4,\).*argmax"),
        ({"x_train": X[:, :, :0]}, r"x_train is uint8 \(4, 5, 0\); expected .* no length of 0"),
        ({"x_test": X, "y_test": np.array([0, 1, 2, 7])}, r"y_test\[3\] is 7"),
        ({"x_test": X[:, :4], "y_test": np.array([0, 1, 2, 0])}, r"\(5, 6\) in x_train, \(4, 6\) in x_test"),
        ({"x_train": np.array([{}] * 4, dtype=object)}, "expected a whole .npz file without Python objects"),
    ],
)
def test_bad_arrays(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_arrays(save(tmp_path, **(GOOD | change)))


def test_missing_array_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds images, but no x_train"):
        open_arrays(save(tmp_path, images=X))
    (tmp_path / "no.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(InputError, match=r"expected a whole \.npz file"):
        open_arrays(tmp_path / "no.npz")
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(InputError, match=r"expected a whole \.npz file"):
        open_arrays((tmp_path / "one.npy").rename(tmp_path / "one.npz"))


def test_damage_inside_the_archive_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    noise = np.random.RandomState(0).randint(0, 256, (4, 20, 20), np.uint8)
    np.savez_compressed(path, x_train=noise, y_train=np.array([1, 0, 2, 0]))
    whole = path.read_bytes()
    for start in range(40, len(whole) - 40, 97):
        path.write_bytes(whole[:start] + b"\xff" * 30 + whole[start + 30 :])
        with contextlib.suppress(InputError):  # where the damage is read at all
            open_arrays(path)
    for keep in range(0, len(whole) - 1, 61):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"set\.npz"):
            open_arrays(path)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path / "made by the file").mkdir, ()

    with pytest.raises(InputError, match="it holds Python objects"):
        open_arrays(save(tmp_path, **(GOOD | {"classes": np.array([Code()] * 3, dtype=object)})))
    assert not (tmp_path / "made by the file").exists()
