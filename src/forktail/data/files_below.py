"""What lies in a folder, and below it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from forktail.errors import InputError
from forktail.files import reason


def entries(folder: Path) -> list[Path]:
    """List what lies in a folder.

    Args:
        folder: The folder.

    Returns:
        Its entries that are not hidden, in no order.

    Raises:
        InputError: If the folder cannot be read.
    """
    try:
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        _refuse(error)


def files_below(folder: Path) -> list[Path]:
    """List the files in and below a folder; links to folders are followed, each folder is looked into once.

    Args:
        folder: The folder.

    Returns:
        The files that are not hidden and lie in no hidden folder, in no order.

    Raises:
        InputError: If the folder, or one below it, cannot be read.
    """
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()  # so that a link to a folder above ends there
    for place, below, here in os.walk(folder, onerror=_refuse, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted(name for name in below if not name.startswith("."))
        files += [Path(place) / name for name in here if not name.startswith(".")]
    return files


def _refuse(error: OSError) -> NoReturn:
    raise InputError(
        f"{error.filename}: {reason(error)}", expected="a folder that can be read", remedy="let it be read, or move it"
    ) from None
