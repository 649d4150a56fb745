"""Data in a ``.npz`` file of arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from forktail.data.images import ArrayPictures, Images
from forktail.data.natural_order import natural_key
from forktail.data.splits import Splits, some
from forktail.errors import InputError
from forktail.files import reason

LABELS = "whole numbers from 0, or class names"
CONVERT = "convert it with .astype('int64') or .astype(str)"


def open_arrays(path: Path) -> Splits:
    """Read ``x_train`` and ``y_train``, and ``x_test``, ``y_test`` and ``classes`` where they exist.

    ``x`` is uint8, ``(N, H, W)`` or ``(N, H, W, 3)``; ``y`` is ``(N,)`` class numbers from 0, or class names.
    ``classes`` names the numbers.

    Args:
        path: The file; nothing in it is unpickled.

    Returns:
        The splits.

    Raises:
        InputError: If an array is missing or has another type, shape or length, or a label does not fit.
    """
    arrays = _load(path)
    for split in ("train", "test") if "x_test" in arrays else ("train",):
        _check_shapes(path, split, arrays[f"x_{split}"], arrays[f"y_{split}"])
    classes = _classes(path, arrays)
    train = _part(path, arrays, "train", classes)
    test = _part(path, arrays, "test", classes) if "x_test" in arrays else None
    if test is not None and arrays["x_test"].shape[1:] != arrays["x_train"].shape[1:]:
        found = f"{path}: pictures of {arrays['x_train'].shape[1:]} in x_train, {arrays['x_test'].shape[1:]} in x_test"
        raise InputError(found, expected="one size and number of channels", remedy="bring both to one shape")
    return Splits(path.stem, train, test)


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is no archive of arrays, or cut off")
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # numpy, zipfile and zlib may raise anything on a damaged file
        raise InputError(
            f"{path}: {'it holds Python objects' if 'allow_pickle' in str(error) else reason(error)}",
            expected="a whole .npz file without Python objects",
            remedy="write it again with numpy.savez, labels as whole numbers or strings",
        ) from None
    wanted = ["x_train", "y_train"] + (["x_test", "y_test"] if arrays.keys() & {"x_test", "y_test"} else [])
    for name in wanted:
        if name not in arrays:
            found = f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}, but no {name}"
            raise InputError(
                found,
                expected="x_train, y_train and, if wanted, x_test, y_test, classes",
                remedy="save the arrays under these names",
            )
    return arrays


def _check_shapes(path: Path, split: str, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> None:
    if x.dtype != np.uint8 or x.ndim not in {3, 4} or (x.ndim == 4 and x.shape[3] != 3) or 0 in x.shape:
        raise InputError(
            f"{path}: x_{split} is {x.dtype} {x.shape}",
            expected="uint8 (N, H, W) or (N, H, W, 3), no length of 0",
            remedy="bring the levels to 0..255, the channels to the end, and convert with .astype('uint8')",
        )
    if y.shape != (len(x),):
        raise InputError(
            f"{path}: y_{split} is {y.shape} for {len(x)} pictures",
            expected=f"({len(x)},), one label for each picture",
            remedy="take .argmax(1) of one-hot labels" if y.ndim == 2 else "leave none out",
        )


def _classes(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> tuple[str, ...]:
    labels = arrays["y_train"]
    if "classes" in arrays:
        classes = tuple(map(str, arrays["classes"].ravel().tolist()))
    elif labels.dtype.kind == "U":
        classes = tuple(sorted(set(labels.ravel().tolist()), key=natural_key))
    elif labels.dtype.kind in "iu":
        classes = _numbers(path, labels)
    else:
        raise InputError(f"{path}: y_train is {labels.dtype}", expected=LABELS, remedy=CONVERT)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise InputError(
            f"{path}: {len(classes)} classes: {some(classes)}",
            expected="two or more, all different",
            remedy="name each class once, and give two or more",
        )
    return classes


def _numbers(path: Path, labels: npt.NDArray[np.integer[Any]]) -> tuple[str, ...]:
    """Take the classes 0 to the largest training label, all of which must occur."""
    present = np.unique(labels)
    strange = np.flatnonzero(present != np.arange(len(present)))
    if len(strange):
        found = f"{path}: y_train holds {present[strange[0]]}, but no {strange[0]}"
        raise InputError(
            found, expected="every class of 0..C-1", remedy="number the classes from 0 without gaps, or use names"
        )
    return tuple(map(str, present.tolist()))


def _part(path: Path, arrays: dict[str, npt.NDArray[Any]], split: str, classes: tuple[str, ...]) -> Images:
    x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
    if y.dtype.kind == "U":
        numbers = {name: c for c, name in enumerate(classes)}
        labels = np.array([numbers.get(name, -1) for name in y.tolist()], np.int64)
    elif y.dtype.kind in "iu":
        labels = y.astype(np.int64)
    else:
        raise InputError(f"{path}: y_{split} is {y.dtype}", expected=LABELS, remedy=CONVERT)
    outside = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(outside):
        i = int(outside[0])
        found = f"{path}: y_{split}[{i}] is {y[i]}"
        raise InputError(
            found,
            expected=f"one of the {len(classes)} classes, {classes[0]} to {classes[-1]}",
            remedy="mend the label, or add the class to the training part",
        )
    return Images.ordered(ArrayPictures(x, f"x_{split}"), labels, classes)
