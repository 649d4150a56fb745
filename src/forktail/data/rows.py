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
from forktail.errors import InputError, nearest

NUMBER = re.compile("-?[0-9]{1,18}")
LISTED = 1000  # classes; the nearest of more would take long to find


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
    named = [row for row in rows if not NUMBER.fullmatch(row.label)]
    if not named:
        rows = [dataclasses.replace(row, label=str(int(row.label))) for row in rows]  # "007" is class 7
        classes = _numbers(name, rows)
    else:
        classes = tuple(sorted({row.label for row in rows if row.split == "train"}, key=natural_key))
    if len(classes) < 2:
        raise InputError(
            f"{name}: {len(classes)} classes in the training rows",
            expected="two or more",
            remedy="add rows of another class; rows of split train, or without one, are training rows",
        )
    parts = {split: [row for row in rows if row.split == split] for split in ("train", "test", "val")}
    images = {split: _images(part, classes) for split, part in parts.items() if part}
    notes = (*_mixed(rows, named), *_repeated(rows))
    return Splits(name, images["train"], images.get("test"), images.get("val"), notes=notes)


def _check_files(rows: Sequence[Row]) -> None:
    missing = [row for row in rows if not os.path.isfile(row.base / row.path)]
    if missing:
        row = missing[0]
        raise InputError(
            f"{row.where}: no file {row.base / row.path} ({len(missing)} of {len(rows)} files missing)",
            expected=f"paths relative to {row.base}",
            remedy="set data.root to the folder to which they are relative"
            + ("; in a list, a label holds no space" if " " in row.path else ""),
        )


def _numbers(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """Take the classes 0 to the largest training label, all of which must occur."""
    negative = next((row for row in rows if int(row.label) < 0), None)
    if negative:
        raise InputError(
            f"{negative.where}: label {negative.label}",
            expected="0 or more",
            remedy="delete rows of unknown class, and number classes from 0",
        )
    trained = {int(row.label) for row in rows if row.split == "train"}
    absent = next(number for number in itertools.count() if number not in trained)
    if trained and absent < max(trained):
        found = f"{name}: class {absent} has no training row, but labels go up to {max(trained)}"
        raise InputError(
            found,
            expected="every class of 0..C-1 in the training rows",
            remedy="number the classes from 0 without gaps, or give them names",
        )
    return tuple(map(str, range(absent)))


def _images(rows: Sequence[Row], classes: tuple[str, ...]) -> Images:
    number = {label: c for c, label in enumerate(classes)}
    for row in rows:
        if row.label not in number:
            raise InputError(
                f'{row.where}: the training rows lack the class "{row.label}"',
                expected=f"one of their {len(classes)} classes",
                remedy=nearest(row.label, classes) if len(classes) <= LISTED else "",
            )
    root = rows[0].base
    paths = (row.path if row.base == root else os.path.relpath(row.base / row.path, root) for row in rows)
    return Images.ordered(FilePictures(root, tuple(paths)), [number[row.label] for row in rows], classes)


def _mixed(rows: Sequence[Row], named: Sequence[Row]) -> tuple[str, ...]:
    """Say that numbers are read as names, where a typing error may be the reason."""
    if not 0 < len(named) < len(rows):
        return ()
    first = named[0]
    return (f'labels were read as names, because "{first.label}" ({first.where}) is no whole number.',)


def _repeated(rows: Sequence[Row]) -> tuple[str, ...]:
    """Refuse a picture with two labels, and say where one stands twice."""
    first: dict[str, Row] = {}
    again, leaked = 0, 0
    for row in rows:
        before = first.setdefault(os.path.normpath(row.base / row.path), row)
        if before.label != row.label:
            raise InputError(
                f'{row.where}: {row.path} has the label "{row.label}", but "{before.label}" in {before.where}',
                expected="one label for each picture",
                remedy="delete one of the two rows",
            )
        again += before is not row and before.split == row.split
        leaked += before.split != row.split
    notes = []
    if again:
        notes.append(f"{again} rows repeat a picture of their part; it counts each time.")
    if leaked:
        notes.append(f"{leaked} pictures stand in two parts: a test on pictures of the training says little.")
    return tuple(notes)
