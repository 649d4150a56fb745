"""Data in a CSV file with the columns ``path``, ``label`` and, if wanted, ``split``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from forktail.data.rows import Row, splits_of_rows
from forktail.data.splits import Splits
from forktail.errors import InputError, nearest


def open_csv(path: Path, test: Path | None = None, root: Path | None = None) -> Splits:
    """Read CSV files (or TSV, by the file's ending).

    Args:
        path: The file; rows without a ``split`` column are training rows.
        test: Another file whose rows are test rows.
        root: Folder to which the paths are relative; each file's own folder if None.

    Returns:
        The splits.

    Raises:
        InputError: If a column is missing, a split has another name, a file is missing or a label does not fit.
    """
    rows = _rows(path, "train", root)
    if test is not None:
        rows += _rows(test, "test", root)
    return splits_of_rows(path.stem, rows)


def _rows(path: Path, default: str, root: Path | None) -> list[Row]:
    base = path.parent if root is None else root
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            _check_header(path, reader.fieldnames or [])
            for record in reader:
                where = f"{path}, line {reader.line_num}"
                if not record["path"] or not record["label"]:
                    raise InputError(f"{where}: a field is empty", expected="a path and a label")
                split = record.get("split") or default
                if split not in {"train", "test", "val"}:
                    raise InputError(f'{where}: split "{split}"', remedy=nearest(split, ["train", "test", "val"]))
                rows.append(Row(base, record["path"], record["label"], split, where))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {error}", expected="a CSV file in UTF-8") from None
    if not rows:
        raise InputError(f"{path} holds no rows below its header", expected="one for each picture")
    return rows


def _check_header(path: Path, header: Sequence[str]) -> None:
    if not {"path", "label"} <= set(header):
        found = f"{path}, line 1: columns {', '.join(header) or 'none'}"
        raise InputError(found, expected="path, label and, if wanted, split")
