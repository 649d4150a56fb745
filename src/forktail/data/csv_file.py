"""Data in a CSV file with the columns ``path``, ``label`` and, if wanted, ``split``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from forktail.data.rows import Row, splits_of_rows
from forktail.data.splits import Splits
from forktail.errors import InputError, nearest
from forktail.files import read_text

COLUMNS = "path, label and, if wanted, split"
SPLITS = ("train", "test", "val")


def open_csv(path: Path, test: Path | None = None, root: Path | None = None) -> Splits:
    """Read CSV files (or TSV, by the file's ending); space round a field is no part of it.

    Args:
        path: The file; rows without a ``split`` column are training rows.
        test: Another file whose rows are test rows.
        root: Folder to which the paths are relative; each file's own folder if None.

    Returns:
        The splits.

    Raises:
        InputError: If a column is missing, a row has more or fewer fields, a split has another name, a file is missing
            or a label does not fit.
    """
    rows = _rows(path, "train", root)
    if test is not None:
        rows += _rows(test, "test", root)
    return splits_of_rows(path.stem, rows)


def _rows(path: Path, default: str, root: Path | None) -> list[Row]:
    base = path.parent if root is None else root
    tabs = path.suffix.lower() == ".tsv"
    text = read_text(path, expected=f"a table in UTF-8 with the columns {COLUMNS}")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",", strict=True)
    rows: list[Row] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, "tabs" if tabs else "commas")
        for fields in filter(None, reader):
            rows.append(_row(header, fields, base, default, f"{path}, line {reader.line_num}"))
    except csv.Error as error:
        found = f"{path}, line {reader.line_num}: {error}"
        raise InputError(found, expected="a table as spreadsheets write it", remedy="close or remove the quotes") from (
            None
        )
    if not rows:
        raise InputError(f"{path} holds no rows below its header", expected="one for each picture")
    return rows


def _row(header: Sequence[str], fields: Sequence[str], base: Path, default: str, where: str) -> Row:
    if len(fields) != len(header):
        raise InputError(
            f"{where}: {len(fields)} fields",
            expected=f"{len(header)}, as in the header",
            remedy="put a field that holds a separator between quotes",
        )
    record = {name: field.strip() for name, field in zip(header, fields, strict=True)}
    for name in ("path", "label"):
        if not record[name]:
            raise InputError(f"{where}: the field {name} is empty", expected="a path and a label")
    split = record.get("split") or default
    if split not in SPLITS:
        raise InputError(f'{where}: split "{split}"', expected=", ".join(SPLITS), remedy=nearest(split, SPLITS))
    return Row(base, record["path"], record["label"], split, where)


def _check_header(path: Path, header: Sequence[str], separator: str) -> None:
    found = f"{path}, line 1: columns {', '.join(header) or 'none'}"
    expected = f"{COLUMNS}, separated by {separator}"
    for name in ("path", "label"):
        if name not in header:
            raise InputError(found, expected=expected, remedy=f'there is no column "{name}": name it in the first line')
    names = [name for name in header if name]  # spreadsheets leave empty columns behind
    if len(set(names)) < len(names):
        raise InputError(found, expected=f"{expected}, each once", remedy="rename or delete the repeated column")
