"""Data in list files, one ``path label`` per line, as ImageNet-LT and Places-LT are published."""

from __future__ import annotations

import re
from pathlib import Path

from forktail.data.rows import Row, splits_of_rows
from forktail.data.splits import Splits
from forktail.errors import InputError
from forktail.files import read_text

LINE = "a path, a space and a label without spaces on each line"
LONG = 80  # characters of a bad line that a message shows


def open_list(path: Path, test: Path | None = None, root: Path | None = None) -> Splits:
    """Read list files. The last white space of a line separates path and label, so a path may hold spaces.

    Args:
        path: The list of training pictures.
        test: The list of test pictures, if there is one.
        root: Folder to which the paths are relative; each list's own folder if None.

    Returns:
        The splits.

    Raises:
        InputError: If a line has one field, a file is missing or a label does not fit.
    """
    rows = _rows(path, "train", root)
    if test is not None:
        rows += _rows(test, "test", root)
    return splits_of_rows(path.stem, rows)


def _rows(path: Path, split: str, root: Path | None) -> list[Row]:
    lines = re.split("\r\n|\r|\n", read_text(path, expected=f"a list in UTF-8, {LINE}"))
    base = path.parent if root is None else root
    rows = []
    for number, line in enumerate(lines, start=1):
        fields = line.rsplit(maxsplit=1)
        if len(fields) == 1:
            raise InputError(f'{path}, line {number}: "{_start(line)}"', expected=LINE, remedy=_remedy(line))
        if fields:
            rows.append(Row(base, fields[0], fields[1], split, f"{path}, line {number}"))
    if not rows:
        raise InputError(f"{path} holds no rows", expected=LINE)
    return rows


def _start(line: str) -> str:
    return line if len(line) <= LONG else f"{line[:LONG]}..."


def _remedy(line: str) -> str:
    if "," in line:
        return "for a list with commas, let its name end in .csv and its first line be path,label"
    return "mend or delete the line"
