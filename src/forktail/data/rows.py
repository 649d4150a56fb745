"""Rows of path and label, from which list files and CSV files make splits."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forktail.data.images import Images
from forktail.data.natural_order import natural_key
from forktail.data.picture_files import FilePictures
from forktail.data.splits import Splits
from forktail.errors import InputError


@dataclass(frozen=True)
class Row:
    """One labelled picture.

    Args:
        base: Folder to which the path is relative.
        path: The picture's file.
        label: A class number or a class name.
        split: ``train``, ``test`` or ``val``.
        where: File and line, for messages.
    """

    base: Path
    path: str
    label: str
    split: str
    where: str


def splits_of_rows(name: str, rows: Sequence[Row]) -> Splits:
    """Make splits of rows.

    Where every label is a whole number, classes are ``0..C-1`` with ``C - 1`` the largest training label; otherwise
    labels are names, and classes stand in their natural order.

    Args:
        name: What the set is called.
        rows: The rows of all splits.

    Returns:
        The splits that have rows.

    Raises:
        InputError: If a file is missing, a label is negative, a class has no training row, or there is one class.
    """
    _check_files(rows)
    if all(re.fullmatch("-?[0-9]+", row.label) for row in rows):
        rows = [dataclasses.replace(row, label=str(int(row.label))) for row in rows]  # "007" is class 7
        classes = _numbers(rows)
    else:
        classes = tuple(sorted({row.label for row in rows if row.split == "train"}, key=natural_key))
    if len(classes) < 2:
        raise InputError(f"{name}: {len(classes)} classes in the training rows", expected="two or more")
    parts = {split: [row for row in rows if row.split == split] for split in ("train", "test", "val")}
    images = {split: _images(part, classes) for split, part in parts.items() if part}
    return Splits(name, images["train"], images.get("test"), images.get("val"))


def _check_files(rows: Sequence[Row]) -> None:
    missing = [row for row in rows if not (row.base / row.path).is_file()]
    if missing:
        row = missing[0]
        found = f"{row.where}: no file {row.base / row.path} ({len(missing)} of {len(rows)} files missing)"
        raise InputError(found, remedy="set data.root to the folder to which the paths are relative")


def _numbers(rows: Sequence[Row]) -> tuple[str, ...]:
    """Take the classes 0 to the largest training label, all of which must occur."""
    negative = next((row for row in rows if int(row.label) < 0), None)
    if negative:
        raise InputError(f"{negative.where}: label {negative.label}", expected="0 or more")
    trained = {int(row.label) for row in rows if row.split == "train"}
    absent = next(number for number in itertools.count() if number not in trained)
    if trained and absent < max(trained):
        found = f"class {absent} has no training row, but labels go up to {max(trained)}"
        raise InputError(found, expected="every class of 0..C-1 in the training rows")
    return tuple(map(str, range(absent)))


def _images(rows: Sequence[Row], classes: tuple[str, ...]) -> Images:
    number = {label: c for c, label in enumerate(classes)}
    for row in rows:
        if row.label not in number:
            raise InputError(f'{row.where}: the training rows lack the class "{row.label}"')
    root = rows[0].base
    paths = (row.path if row.base == root else os.path.relpath(row.base / row.path, root) for row in rows)
    return Images.ordered(FilePictures(root, tuple(paths)), [number[row.label] for row in rows], classes)
